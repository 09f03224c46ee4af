"""One process at a time writes in a place; the end of a process, also by kill -9, frees it.

A lock is a small file, which says who holds it, locked for as long as that process lives (`alive`).
"""

import errno
import json
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensynth.errors import RefusedError
from gensynth.system.alive import Hold

# What file systems answer that know no locks.
_UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass
class Lock:
    """A lock of this process; `token` is written in its file, where other processes can see it."""

    path: Path
    token: str
    hold: Hold

    def release(self) -> None:
        """Gives the place free and leaves no file."""
        with suppress(OSError):
            if self.hold.is_at(self.path):
                self.path.unlink()
        self.hold.release()


def claim(path: Path, place: Path, advice: str) -> Lock:
    """The lock whose file is `path`, for writing in `place`.

    Raises:
        RefusedError: somebody else holds it; the message says who, and then gives `advice`.
        OSError: the file cannot be made or written.
    """
    path = path.resolve()
    while True:
        hold = Hold(path, os.O_RDWR | os.O_CREAT)
        try:
            _take(hold, place, advice)
            # It may have been the file of a lock that was released in the meantime.
            if hold.is_at(path):
                break
        except (OSError, RefusedError):
            hold.release()
            raise
        hold.release()
    lock = Lock(path, secrets.token_hex(16), hold)
    try:
        _sign(lock)
    except OSError:
        lock.release()
        raise
    return lock


@contextmanager
def locked(path: Path, place: Path, advice: str) -> Iterator[None]:
    """`claim` for the time of a block."""
    lock = claim(path, place, advice)
    try:
        yield
    finally:
        lock.release()


def token_in(path: Path) -> str | None:
    """The token in the file of a lock, if there is one to be read."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _take(hold: Hold, place: Path, advice: str) -> None:
    try:
        if not hold.lock():
            raise RefusedError(f"{place} is being written by {_holder(hold)}. {advice}")
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        print(
            f"warning: the disk of {place} knows no locks ({error.strerror}): take care that no "
            "other process writes there.",
            file=sys.stderr,
        )


def _sign(lock: Lock) -> None:
    about = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.argv),
        "token": lock.token,
    }
    descriptor = lock.hold.descriptor
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(about).encode(), 0)
    os.fsync(descriptor)  # other machines are to see it


def _holder(hold: Hold) -> str:
    """Who holds the lock of a file, in words."""
    try:
        about: Any = json.loads(os.pread(hold.descriptor, 2**16, 0))
        if (about["process"], about["host"]) == (os.getpid(), socket.gethostname()):
            return "this process already"
        return (
            f"process {about['process']} on {about['host']} since {about['since']} "
            f"({about['command']})"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is only just being written
        return "another process"
