"""Small files that are whole or absent, and lines that a crash may have cut."""

import json
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gensynth.system.alive import Hold
from gensynth.system.locks import locked

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")  # ends of names of weights that may hold code
# What torch's reader of weights raises for a file that is cut off, damaged or something else.
DAMAGED = (
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)


def write_text(path: Path, text: str) -> None:
    """`replace_file` with text in UTF-8; of a file's name that is no text the bytes are spelt."""
    replace_file(path, text.encode(errors="backslashreplace"))


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file at once: a reader, or a crash, finds the old content or the new.

    Raises:
        OSError: the disk is full or the folder not writable; the old content is still there.
    """
    temporary = temporary_for(path)
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_for(path: Path) -> Path:
    """Where this process writes a file or folder before it gets its name: beside it, so that
    renaming is atomic."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def give_name(temporary: Path, path: Path) -> bool:
    """Whether a finished file could take the name `path`; not if something has it already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a disk without links
        if path.exists():
            return False
        temporary.replace(path)
    return True


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder`, absent or empty, when the block ends.

    After an error in the block nothing is left of it; after kill -9 the next call for the same
    folder removes it.

    Raises:
        RefusedError: another process is making this folder.
        OSError: the disk is full or the place not writable.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    with locked(lock, folder, "Wait for its end, stop it, or choose another folder."):
        for abandoned in leftovers(folder.parent, folder.name):
            shutil.rmtree(abandoned, ignore_errors=True)
        temporary = temporary_for(folder)
        try:
            temporary.mkdir()
            yield temporary
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def use_folder(folder: Path, shared: Path) -> Hold:
    """Says that this process writes in a folder, until it ends or releases what is returned.

    What killed processes have left in it (`temporary_for`) is removed if nobody else does.

    Args:
        shared: a file in the folder that all who write there lock together.
    """
    hold = Hold(shared, os.O_RDONLY)
    with suppress(OSError):  # a disk that knows no locks: nothing is removed
        if hold.lock():
            for path in leftovers(folder):
                path.unlink(missing_ok=True)
        hold.lock(shared=True, wait=True)
    return hold


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """What `new_folder` and `replace_file` have left in a folder when they were killed.

    Of one name, or of all. Only for whoever holds the lock of the place: what is written just now
    looks the same.
    """
    names = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.\d+\.tmp")
    return [path for path in folder.iterdir() if names.fullmatch(path.name)]


def json_in(path: Path) -> Any:
    """What a file of JSON says, for a look at it; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines, without those that were cut off or damaged.

    A file that is not there has no entries.
    """
    entries = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
