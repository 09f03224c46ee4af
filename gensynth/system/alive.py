"""Whether the owner of a file or folder is alive: it holds a lock on it, which ends with it.

The kernel frees a lock when its process ends, also by kill -9. It is `flock` and no record lock of
POSIX: those cannot be on folders, end when the process closes any descriptor of the file, and know
no two owners in one process. On NFS Linux passes `flock` on to the server, so that other machines
see it; an exclusive one then needs a file that is open for writing.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

_held: "set[Hold]" = set()


class Hold:
    """An open file or folder that may be locked, until `release` or the end of this process.

    Forked processes would inherit the lock and keep it when their parent is killed; they close it
    as the first thing they do.
    """

    def __init__(self, path: Path, flags: int = os.O_RDWR):
        """Opens what is at a path.

        Raises:
            OSError: it cannot be opened.
        """
        self.descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
        _held.add(self)

    def lock(self, *, wait: bool = False, shared: bool = False) -> bool:
        """Whether it is locked by this object now; not if somebody else has it locked.

        Args:
            wait: for the others.
            shared: with all who lock it so.

        Raises:
            OSError: the file system knows no locks.
        """
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.descriptor, how if wait else how | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def is_at(self, path: Path) -> bool:
        """Whether what was opened still has this name."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Frees and closes it; a second time does nothing."""
        if self not in _held:
            return
        _held.remove(self)
        descriptor, self.descriptor = self.descriptor, -1
        with suppress(OSError):  # a process that is being forked just now has it open, too
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _let_go_in_child() -> None:
    for hold in _held:
        os.close(hold.descriptor)
        hold.descriptor = -1
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
