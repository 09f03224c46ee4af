"""The folder of a running server: private, locked, made anew if a cleaner took it."""

import fcntl
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

from gensynth.errors import OutputError

PREFIX = "gensynth-serve-"


class PrivateFolder:
    """A temporary folder that only this user may enter, and that lives as long as its server.

    The server holds a lock on the folder itself. The kernel lets go of it when the process ends,
    however it ends, so a folder that nobody holds is left over from a server that was killed.

    Raises:
        OutputError: there is no place for temporary files.
    """

    def __init__(self) -> None:
        delete_leftovers()
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()  # mode 0700
        except OSError as error:
            raise OutputError(_cannot(tempfile.gettempdir(), error)) from error
        self.pictures = self.path / "pictures"
        self._guard = threading.Lock()
        self._held: int | None = None  # descriptor of the folder, with the lock
        self.ensure()

    def ensure(self) -> None:
        """Makes the folder anew if it is gone: cleaners of temporary files take old ones.

        Raises:
            OutputError: it cannot be made, or somebody else made one of its name.
        """
        with self._guard:
            try:
                while self._held is None or not _is_open_as(self._held, self.path):
                    self._let_go()
                    self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._held = _open_own(self.path)
                    # Waits for a server that starts just now and takes this for a leftover.
                    _lock(self._held, fcntl.LOCK_EX)
                self.pictures.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(_cannot(str(self.path), error)) from error

    def remove(self) -> None:
        """Deletes the folder with all that is in it."""
        with self._guard:
            shutil.rmtree(self.path, ignore_errors=True)
            self._let_go()

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


def delete_leftovers() -> None:
    """Deletes the folders of this user's servers that were killed."""
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        try:
            lock = _open_own(path)
        except OSError:  # somebody else's, no folder, or gone by now
            continue
        try:
            if _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _open_own(path: Path) -> int:
    """A descriptor of a folder of this user, never of what a link points to."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    about = os.fstat(descriptor)
    if about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o077:
        os.close(descriptor)
        raise PermissionError(13, "it belongs to somebody else, or others may enter it")
    return descriptor


def _lock(descriptor: int, how: int) -> bool:
    """Whether the lock is ours now. Where a file system has no locks, it never is."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True


def _is_open_as(descriptor: int, path: Path) -> bool:
    """Whether the folder at this path is still the one that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _cannot(path: str, error: OSError) -> str:
    return (
        f"cannot write temporary files to {path}: {error.strerror or error}. "
        "Free some space there, or set TMPDIR to a folder on another disk."
    )
