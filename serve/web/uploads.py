"""The space that the uploads of all visitors take together."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gensynth.errors import GensynthError
from gensynth_serve.web.folder import PrivateFolder

MAX_SPACE = 50_000_000  # bytes, arriving ones included
MAX_FILES = 200


class NoRoomError(GensynthError):
    """Too much is arriving at once."""


class UploadSpace:
    """Makes room for uploads by deleting the oldest.

    A page reads an uploaded picture as soon as it is there, so one that is deleted has been read.
    Gradio stores each upload in a folder of its own, and one that arrives in a file beside them.
    """

    def __init__(self, folder: PrivateFolder):
        self.folder = folder
        self.arriving = 0  # bytes that requests have announced
        self.requests = 0

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Room for `size` bytes, for as long as they arrive.

        Raises:
            NoRoomError: so much is arriving that deleting what is there would not help.
        """
        if self.arriving + size > MAX_SPACE:
            raise NoRoomError(
                "too many files are being uploaded at this moment. Try again in a minute."
            )
        self._keep(MAX_SPACE - self.arriving - size)
        self.arriving += size
        self.requests += 1
        try:
            yield
        finally:
            self.arriving -= size
            self.requests -= 1
            if not self.requests:
                self._delete_cut_off()
            self._keep(MAX_SPACE - self.arriving)

    def _keep(self, space: int) -> None:
        """Deletes the oldest uploads until those left fit into the space."""
        stored = [path for path in self._entries() if path.is_dir()]
        newest_first = sorted(stored, key=_age, reverse=True)
        for number, path in enumerate(newest_first):
            space -= sum(_size(file) for file in path.rglob("*"))
            if space < 0 or number >= MAX_FILES:
                shutil.rmtree(path, ignore_errors=True)

    def _delete_cut_off(self) -> None:
        """Deletes what arrived in part, when nothing is arriving."""
        for path in self._entries():
            if path.is_file():
                path.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        try:
            return [path for path in self.folder.path.iterdir() if path != self.folder.pictures]
        except FileNotFoundError:  # a cleaner of temporary files took the folder
            return []


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
