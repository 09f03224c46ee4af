"""The files that a path or a pattern means, whatever characters are in it."""

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path

from gensynth.errors import UsageError

# How the hub's files say in their names which split they are of.
SPLITS = ("train", "test", "val")


def matching(place: str) -> list[Path]:
    """The files of a path, or of a pattern such as `shards/*.tar`, in the order of their names.

    What exists is taken as it is written: brackets in it are no pattern.
    """
    path = Path(place)
    if path.exists():
        return [path]
    literal = path
    while not literal.exists() and literal != literal.parent:
        literal = literal.parent
    pattern = str(path.relative_to(literal)) if literal != path else ""
    # of the part that exists nothing is a pattern, such as `set [v1]` of `set [v1]/*.tar`
    found = {*glob.glob(str(Path(glob.escape(str(literal))) / pattern)), *glob.glob(place)}
    return [Path(name) for name in sorted(found)]


def files_ending(folder: Path, *endings: str) -> list[Path]:
    """The files directly in a folder with one of some endings, in upper or lower case, by name."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(endings) and not file.name.startswith(".") and file.is_file()
    )


def split_of_file(file: Path) -> str | None:
    """Which split a file is of by its name, such as the hub's `test-00000-of-00001.parquet`."""
    return next((split for split in SPLITS if split in file.stem.lower()), None)


def files_of_split(files: Sequence[Path], split: str) -> list[Path]:
    """The files of a split, if some file names say to which they belong; otherwise all.

    Raises:
        UsageError: no file is of that split.
    """
    named = {file: split_of_file(file) for file in files}
    if not any(named.values()):
        return list(files)
    wanted = next((s for s in SPLITS if s in split.lower()), split)
    chosen = [file for file, found in named.items() if found == wanted]
    if not chosen:
        found = ", ".join(sorted({name for name in named.values() if name}))
        raise UsageError(f"by their names the files are of {found}, none of data.split {split}.")
    return chosen


def stamp_of(files: Sequence[Path]) -> str:
    """A hash of the places, sizes and times of files, among them one that no program can set.

    So two files of the same name, size and date, as archives and copies leave them, differ.
    """
    digest = hashlib.sha256()
    for file in files:
        place, stat = file.resolve(), file.stat()
        times = f"{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
        digest.update(f"{place}\0{stat.st_size}\0{times}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
