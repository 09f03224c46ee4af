"""The picture files below a folder, links followed, and what was left out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gensynth.data.reading.contents import LeftOut
from gensynth.data.reading.endings import OVERVIEW, is_picture
from gensynth.errors import InputError

OTHER = "other files"
TEXT = ".txt"
METADATA = ("metadata.csv", "metadata.jsonl")
# What programs leave in folders of pictures, in lower case; names with a dot in front are hidden.
HIDDEN = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found")
THUMBNAILS = ("thumbs", "thumbnails", "_thumbs", "_thumbnails")
OURS = ("manifest", "job.json")  # how the files begin that `gensynth sample` puts beside pictures


@dataclass
class Walked:
    """What lies below `root`.

    Attributes:
        files: pictures, below `root` by their paths, in no order that means anything.
        metadata: tables about them, see `gensynth.data.reading.metadata`.
        texts: `.txt` files, which may be captions.
        linked: how many pictures were reached by links that lead out of `root`.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    metadata: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    linked: int = 0


def walk(root: Path) -> Walked:
    """Every picture below a folder.

    Links are followed, also those that lead out of the folder: class folders are often links to
    another disk. A link to a folder around itself or around `root` is left out: it would never end,
    or read the whole machine.

    Raises:
        InputError: a folder that cannot be read.
    """
    found = Walked(root)
    home = os.path.realpath(root)
    _walk(root, (home,), home, False, found)
    return found


def _walk(folder: Path, above: tuple[str, ...], home: str, outside: bool, found: Walked) -> None:
    """Adds what is in one folder; `above` are the real paths of it and the folders around it."""
    for entry in _entries(folder):
        path = folder / entry.name
        shown = str(path.relative_to(found.root))
        real = os.path.realpath(path) if entry.is_symlink() else ""
        leads_out = outside or (bool(real) and not _inside(real, home))
        # os.path answers for links: `entry` raises where a link leads to itself, pathlib where it
        # leads to what may not be looked at.
        if os.path.isdir(path) if real else entry.is_dir():  # noqa: PTH112
            reason = _unwanted(entry.name)
            if reason:
                found.left_out.add(f"in {reason} folders", shown, _pictures_in(path))
            elif real and any(_inside(one, real) for one in above):
                found.left_out.add("links to a folder around them", shown)
            else:
                inner = real or f"{above[-1]}{os.sep}{entry.name}"
                _walk(path, (*above, inner), home, leads_out, found)
        elif entry.name.lower() in METADATA:
            found.metadata.append(path)
        else:
            reason = _left_out(entry, path, folder == found.root)
            if reason == OTHER and path.suffix.lower() == TEXT:
                found.texts.append(path)
            elif reason:
                found.left_out.add(reason, shown)
            elif is_picture(path):
                found.files.append(path)
                found.linked += leads_out


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _left_out(entry: os.DirEntry[str], path: Path, at_top: bool) -> str | None:
    """Why a file is not among the pictures; None also for the files of `gensynth sample`."""
    if not os.path.isfile(path):  # noqa: PTH113 - as above
        # a pipe with the name of a picture would be waited for
        return "links that lead nowhere" if entry.is_symlink() else "pipes or devices"
    if entry.name.startswith("."):
        return "hidden files"
    if at_top and entry.name == OVERVIEW:
        return "an overview of other pictures"
    if not is_picture(path) and not (at_top and entry.name.startswith(OURS)):
        return OTHER
    return None


def _unwanted(name: str) -> str | None:
    if name.startswith(".") or name.lower() in HIDDEN:
        return "hidden"
    return "thumbnail" if name.lower() in THUMBNAILS else None


def _pictures_in(folder: Path) -> int:
    """How many pictures an unwanted folder holds; its links are not followed."""
    return sum(is_picture(Path(name)) for _, _, names in os.walk(folder) for name in names)


def _inside(real: str, home: str) -> bool:
    return real == home or real.startswith(home.rstrip(os.sep) + os.sep)
