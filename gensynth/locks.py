"""One process at a time writes in a place; the end of a process, also by kill -9, frees it.

A lock is a POSIX record lock on a small file, which says who holds it. The kernel keeps it with the
process and not with the open file: children do not inherit it, so a data worker that outlives its
parent holds nothing. NFS passes such locks on between machines.
"""

import errno
import fcntl
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

# What file systems answer that know no locks.
_UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
# Those of this process: the kernel would give it a second one.
_held: set[Path] = set()


@dataclass
class Lock:
    """A lock of this process; `token` is written in its file, where other processes can see it."""

    path: Path
    token: str
    descriptor: int

    def release(self) -> None:
        """Gives the place free and leaves no file."""
        with suppress(OSError):
            if _is_at(self.descriptor, self.path):
                self.path.unlink()
        os.close(self.descriptor)
        _held.discard(self.path)


def claim(path: Path, place: Path, advice: str) -> Lock:
    """The lock whose file is `path`, for writing in `place`.

    Raises:
        RefusedError: somebody else holds it; the message says who, and then gives `advice`.
        OSError: the file cannot be made or written.
    """
    path = path.resolve()
    if path in _held:
        raise RefusedError(f"{place} is being written by this process already. {advice}")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take(descriptor, place, advice)
            # It may have been the file of a lock that was released in the meantime.
            if _is_at(descriptor, path):
                break
        except (OSError, RefusedError):
            os.close(descriptor)
            raise
        os.close(descriptor)
    lock = Lock(path, secrets.token_hex(16), descriptor)
    _held.add(path)
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
    """The token in the file of a lock, if there is one to be read. Not for the process that holds
    it: closing the file would end its lock."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _take(descriptor: int, place: Path, advice: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise RefusedError(
                f"{place} is being written by {_holder(descriptor)}. {advice}"
            ) from error
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
    os.ftruncate(lock.descriptor, 0)
    os.pwrite(lock.descriptor, json.dumps(about).encode(), 0)
    os.fsync(lock.descriptor)  # other machines are to see it


def _holder(descriptor: int) -> str:
    """Who holds the lock of a file, in words."""
    try:
        about: Any = json.loads(os.pread(descriptor, 2**16, 0))
        return (
            f"process {about['process']} on {about['host']} since {about['since']} "
            f"({about['command']})"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is only just being written
        return "another process"


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
