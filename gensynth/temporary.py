"""Temporary files that are nobody's any more once their process is gone, also by kill -9.

Each file is locked by the process that made it. The kernel frees the lock when the last process
that inherited it ends, so a file whose lock can be taken has no owner.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

PREFIX = "gensynth-unpacked-"  # of files in the folder of the system
_LEFT = re.compile(r"\..+\.[0-9]+\.tmp")  # as `files.temporary_for` names them


def owned_file(suffix: str, folder: Path | None = None) -> tuple[Path, IO[bytes]]:
    """A new file open for writing, which is owned until this process and its children end.

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
        stream = os.fdopen(handle, "wb")
        own(stream)
        if os.fstat(handle).st_nlink:  # or another process removed it before it was locked
            return Path(name), stream
        stream.close()


def remove_leftovers(folder: Path | None = None) -> None:
    """Deletes files of `owned_file` that no living process owns; the others are left alone."""
    remove_unowned((folder or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"))


def own(stream: IO[bytes]) -> None:
    """Locks an open file, until it is closed or this process and its children end."""
    with suppress(OSError):  # a disk that knows no locks
        fcntl.flock(stream, fcntl.LOCK_EX)


def remove_unowned(files: Iterable[Path]) -> None:
    """Deletes those of some files that no living process owns."""
    for path in files:
        try:
            with path.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except OSError:  # it is in use, of another user, or just gone
            continue


def use_folder(folder: Path, shared: Path) -> IO[bytes]:
    """Says that this process writes in a folder, for as long as what is returned is there.

    What killed processes have left in it (`files.temporary_for`) is removed if nobody else does.

    Args:
        shared: a file in the folder that all who write there lock together.
    """
    stream = shared.open("rb")
    with suppress(OSError):  # somebody does, or the disk knows no locks
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in folder.iterdir():
            if _LEFT.fullmatch(path.name):
                path.unlink(missing_ok=True)
    with suppress(OSError):
        fcntl.flock(stream, fcntl.LOCK_SH)
    return stream
