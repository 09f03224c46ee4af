"""Temporary files that are nobody's any more once their process is gone, also by kill -9."""

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gensynth.system.alive import Hold

PREFIX = "gensynth-unpacked-"  # of files in the folder of the system


def owned_file(suffix: str, folder: Path | None = None) -> tuple[Path, Hold]:
    """A new empty file, which this process owns until it ends or releases what is returned.

    Files of its kind whose owners are gone are removed first.

    Args:
        folder: where; None for the system's folder of temporary files (`TMPDIR`).

    Raises:
        OSError: it cannot be made.
    """
    folder = folder or Path(tempfile.gettempdir())
    remove_leftovers(folder)
    while True:
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=suffix, dir=folder)
        os.close(handle)
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            hold = own(Path(name))
            if hold.is_at(Path(name)):
                return Path(name), hold
            hold.release()


def remove_leftovers(folder: Path | None = None) -> None:
    """Deletes files of `owned_file` that no living process owns; the others are left alone."""
    remove_unowned((folder or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"))


def own(path: Path) -> Hold:
    """A file as this process's, until it ends or releases what is returned.

    Raises:
        OSError: it cannot be opened for writing.
    """
    hold = Hold(path)
    with suppress(OSError):  # a disk that knows no locks
        hold.lock(wait=True)
    return hold


def remove_unowned(files: Iterable[Path]) -> None:
    """Deletes those of some files that no living process owns."""
    for path in files:
        with suppress(OSError), Hold(path) as hold:  # of another user, gone, or without locks
            if hold.lock():
                path.unlink(missing_ok=True)
