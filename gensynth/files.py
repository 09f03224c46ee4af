"""Small files that are whole or absent, and lines that a crash may have cut."""

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def cache_folder(kind: str) -> Path:
    """Folder for things that can be made again, by kind (`GENSYNTH_CACHE`, ~/.cache/gensynth).

    It may not exist yet.
    """
    return Path(os.environ.get("GENSYNTH_CACHE", "~/.cache/gensynth")).expanduser() / kind


def write_text(path: Path, text: str) -> None:
    """`replace_file` with text in UTF-8."""
    replace_file(path, text.encode())


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file at once: a reader, or a crash, finds the old content or the new.

    Raises:
        OSError: the disk is full or the folder not writable; the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder`, absent or empty, when the block ends.

    After an error in the block nothing is left of it.

    Raises:
        OSError: the disk is full or the place not writable.
    """
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines, without those that a killed process cut off.

    A file that is not there has no entries.
    """
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
