"""What the folders around pictures mean: splits of a dataset (train, val, test), or classes."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gensynth.data.reading.endings import natural
from gensynth.errors import InputError, UsageError

# A split by the names that its folder may have.
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
ALL = "all"


def split_called(name: str) -> str | None:
    """Which split of a dataset a folder of this name holds; None for any other folder."""
    return next((split for split, names in SPLIT_FOLDERS.items() if name.lower() in names), None)


def split_folders(inside: Sequence[tuple[str, ...]], classes: Sequence[str] = ()) -> list[str]:
    """The folders of the first level, if they are splits of a dataset; empty if they are classes.

    They are splits if all of them are called so, or if there is one for training and one for
    testing. A single folder called `train` among others (bus, car) is a class.

    Args:
        inside: the pieces of each picture's path, without the folder they are all in.
        classes: names that are known to be classes.
    """
    top = sorted({pieces[0] for pieces in inside if len(pieces) > 1}, key=natural)
    loose = any(len(pieces) == 1 for pieces in inside)
    splits = {split_called(name) for name in top} - {None}
    both = "train" in splits and len(splits) > 1
    only = bool(top) and all(map(split_called, top)) and not loose
    return top if (both or only) and not set(top) <= set(classes) else []


def chosen_folders(place: str, folders: Sequence[str], wanted: str | None) -> list[str]:
    """Those of the folders of splits that a name such as "train" or "all" means.

    Raises:
        UsageError: none is named and there are several.
        InputError: there is no such split.
    """
    if wanted is None:
        if len(folders) > 1:
            raise UsageError(
                f"{place} has the splits {', '.join(folders)}. Choose one: {place}:{folders[0]}."
            )
        return list(folders)
    if wanted == ALL:
        return list(folders)
    split = split_called(wanted)
    found = [name for name in folders if name == wanted or (split and split_called(name) == split)]
    if not found:
        raise InputError(
            f"{place} has the splits {', '.join(folders)}, not {wanted!r}. Choose one of them, or "
            f"{ALL} (data.split)."
        )
    return found


def class_folders(
    place: str, inside: Sequence[tuple[str, ...]], level: int | None
) -> list[str] | None:
    """The name of each picture's class; None if there are no folders, or none are asked for.

    Args:
        inside: the pieces of each picture's path.
        level: which folders are the classes, 1 for the first; 0 for none. None: the first, if all
            pictures lie equally deep.

    Raises:
        InputError: pictures that lie differently deep, or not below such a folder.
    """
    depths = Counter(map(len, inside))
    if level == 0 or depths.keys() <= {1}:
        return None
    if level is None:
        if len(depths) > 1:
            raise InputError(_mixed(place, inside, depths))
        return [pieces[0] for pieces in inside]
    for pieces in inside:
        if len(pieces) <= level:
            raise InputError(
                f"{'/'.join(pieces)} in {place} does not lie {level} folders deep, so it has no "
                "class. Move it, or choose another level (data.class_level, --class-level)."
            )
    return [pieces[level - 1] for pieces in inside]


def _mixed(place: str, inside: Sequence[tuple[str, ...]], depths: Counter[int]) -> str:
    odd, usual = min(depths, key=lambda depth: (depths[depth], depth)), depths.most_common(1)[0][0]
    if odd == usual:  # as many of each
        odd = min(depths)
        usual = max(depths)
    one = next(pieces for pieces in inside if len(pieces) == odd)
    other = next(pieces for pieces in inside if len(pieces) == usual)
    way = "0 for no classes" if 1 in depths else "1 for the first folders as classes, 0 for none"
    return (
        f"pictures in {place} lie differently deep: {'/'.join(one)} ({depths[odd]:,} so deep) and "
        f"{'/'.join(other)} ({depths[usual]:,} so deep), so the classes are not clear. "
        f"Move those of one depth elsewhere, or set data.class_level (--class-level): {way}."
    )


def parsed_split(split: str) -> list[tuple[str, str]]:
    """Names and slices of "train", "train[:10%]" or "train+test".

    Raises:
        UsageError: something else.
    """
    found = []
    for piece in split.split("+"):
        match = re.fullmatch(r"\s*([\w.-]+)\s*(\[[^\]]*\])?\s*", piece)
        if match is None:
            raise UsageError(
                f"data.split {split!r} is none: write train, val, test, all, or a slice of one: "
                "train[:10%]."
            )
        found.append((match[1], match[2] or ""))
    return found


def relative(files: Sequence[Path], folder: Path) -> list[tuple[str, ...]]:
    """The pieces of each path below a folder."""
    skipped = len(folder.parts)
    return [file.parts[skipped:] for file in files]
