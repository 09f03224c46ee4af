"""The folder of a running server: private, locked, made anew if a cleaner took it."""

import os
import shutil
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from gensynth.errors import OutputError
from gensynth.system.alive import Hold

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
        self._hold: Hold | None = None  # of the folder itself
        self.ensure()

    def ensure(self) -> None:
        """Makes the folder anew if it is gone: cleaners of temporary files take old ones.

        Raises:
            OutputError: it cannot be made, or somebody else made one of its name.
        """
        with self._guard:
            try:
                while self._hold is None or not self._hold.is_at(self.path):
                    self._let_go()
                    self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._hold = _open_own(self.path)
                    # Waits for a server that starts just now and takes this for a leftover.
                    with suppress(OSError):  # a file system without locks
                        self._hold.lock(wait=True)
                self.pictures.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(_cannot(str(self.path), error)) from error

    def remove(self) -> None:
        """Deletes the folder with all that is in it."""
        with self._guard:
            shutil.rmtree(self.path, ignore_errors=True)
            self._let_go()

    def _let_go(self) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None


def delete_leftovers() -> None:
    """Deletes the folders of this user's servers that were killed."""
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        # Somebody else's, no folder, gone by now, or on a file system without locks.
        with suppress(OSError), _open_own(path) as hold:
            if hold.lock():
                shutil.rmtree(path, ignore_errors=True)


def _open_own(path: Path) -> Hold:
    """A folder of this user, never what a link points to."""
    hold = Hold(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    about = os.fstat(hold.descriptor)
    if about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o077:
        hold.release()
        raise PermissionError(13, "it belongs to somebody else, or others may enter it")
    return hold


def _cannot(path: str, error: OSError) -> str:
    return (
        f"cannot write temporary files to {path}: {error.strerror or error}. "
        "Free some space there, or set TMPDIR to a folder on another disk."
    )
