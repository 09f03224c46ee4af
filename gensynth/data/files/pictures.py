"""Encoded pictures by number: the files of a folder, or the rows of a dataset."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

from gensynth.config import Data
from gensynth.data.images import decode
from gensynth.data.sources import open_source
from gensynth.errors import InputError
from gensynth.files import read_json_lines

OVERVIEW = "grid.png"  # what `gensynth sample` adds to its pictures
ENDINGS = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
HEAD_BYTES = 64  # of a file, enough to see how it is compressed


class Pictures(Protocol):
    """Pictures by number, before they are brought to a size; to be used in any process.

    Attributes:
        labels, classes: the class of each picture, and the names of classes, where they are known.
        lossy: stored as JPEG or the like.
        stamp: changes when the files change.
    """

    labels: list[int] | None
    classes: list[str] | None
    lossy: bool
    stamp: str

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """A picture of mode L or RGB.

        Raises:
            one of `gensynth.data.images.UNREADABLE`, or an error with what to do.
        """

    def name_of(self, index: int) -> str:
        """How to find a picture."""


class Files:
    """Picture files, in the order given.

    Args:
        folder: under which all of them are.

    Attributes:
        labels: those in the manifest of `gensynth sample`; otherwise the folders directly under
            `folder` are classes, by their numbers or else in alphabetical order.
    """

    def __init__(self, files: list[Path], folder: Path):
        self.files = files
        self.stamp = stamp_of(files)
        self.labels = _drawn_labels(files, folder)
        self.classes: list[str] | None = None
        if self.labels is None:
            self.labels, self.classes = _folder_labels(files, folder)
        self.lossy = any_lossy([file.name for file in files], self._head)

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> Image.Image:
        return decode(str(self.files[index]))

    def name_of(self, index: int) -> str:
        return str(self.files[index])

    def _head(self, index: int) -> bytes:
        return _content(self.files[index], HEAD_BYTES)


class Rows:
    """The images of a dataset, see `gensynth.data.sources`.

    Raises:
        InputError, UsageError: as `open_source`.
    """

    def __init__(self, data: Data):
        source = open_source(data)
        self.rows = source.rows
        self.channels = data.channels
        self.place = f"{data.path or data.source} {data.split}"
        # Of the files, their times and all that was done to the rows since.
        self.stamp = str(self.rows._fingerprint)
        self.labels: list[int] | None = None
        self.classes: list[str] | None = None
        if "label" in self.rows.column_names:
            self.labels = self.rows["label"][:]
            # Numbers are not names: another set may know those.
            numbers = [str(label) for label in range(len(source.classes))]
            self.classes = None if source.classes == numbers else source.classes
        self.lossy = len(self.rows) > 0 and is_lossy(self._encoded(0)[:HEAD_BYTES])

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> Image.Image:
        return decode(self._encoded(index), self.channels)

    def name_of(self, index: int) -> str:
        return f"row {index} of {self.place}"

    def _encoded(self, index: int) -> bytes:
        image = self.rows[index]["image"] or {}
        if not image.get("bytes") and image.get("path"):
            return _content(Path(image["path"]))
        return image.get("bytes") or b""


def pictures_below(folder: Path) -> list[Path]:
    """The picture files in a folder and its folders, in natural order, without hidden ones."""
    found = []
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if is_picture(file) and not hidden:
            found.append(file)
    return sorted(found, key=natural)


def is_picture(file: Path) -> bool:
    """Whether a file is a picture by its name, and not the overview of others."""
    return file.suffix.lower() in ENDINGS and file.name != OVERVIEW


def natural(path: Path) -> tuple[list[int | str], str]:
    """A key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], str(path)


def stamp_of(files: Sequence[Path]) -> str:
    """A hash of the places, sizes and times of files, among them one that no program can set.

    So two files of the same name, size and date, as archives and copies leave them, differ.
    """
    digest = hashlib.sha256()
    for file in files:
        place, stat = file.resolve(), file.stat()
        times = f"{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
        digest.update(f"{place}\0{stat.st_size}\0{times}\n".encode())
    return digest.hexdigest()


def common_folder(files: Sequence[Path]) -> Path:
    """The folder under which all files are."""
    return Path(os.path.commonpath([str(file.parent) for file in files] or [""]))


def any_lossy(names: Sequence[str], head: Callable[[int], bytes]) -> bool:
    """Whether some pictures are stored with loss, judged by the first of each ending.

    Args:
        head: number -> the first `HEAD_BYTES` of a picture.
    """
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        first.setdefault(Path(name).suffix.lower(), index)
    return any(is_lossy(head(index)) for index in first.values())


def is_lossy(head: bytes) -> bool:
    """Whether a file that begins so is a JPEG, or a WebP that is not lossless."""
    return head.startswith(b"\xff\xd8") or (head[8:12] == b"WEBP" and b"VP8L" not in head)


def _content(file: Path, most: int = -1) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error


def _drawn_labels(files: list[Path], folder: Path) -> list[int] | None:
    labels = {}
    for entry in read_json_lines(folder / "manifest.jsonl"):
        if isinstance(entry, dict) and isinstance(entry.get("label"), int):
            labels[str(entry.get("index"))] = entry["label"]
    found = [labels.get(file.stem.lstrip("0") or "0") for file in files]
    return all_known(found)


def _folder_labels(files: list[Path], folder: Path) -> tuple[list[int] | None, list[str] | None]:
    """The labels of files and the names of classes, from the folders directly under `folder`."""
    inside = [file.relative_to(folder).parts for file in files]
    if not inside or any(len(parts) < 2 for parts in inside):
        return None, None
    names = sorted({parts[0] for parts in inside})
    if all(name.isdecimal() for name in names):
        return [int(parts[0]) for parts in inside], None
    number = {name: index for index, name in enumerate(names)}
    return [number[parts[0]] for parts in inside], names


def all_known(labels: list[int | None]) -> list[int] | None:
    """Labels if there are any and none is missing."""
    known = [label for label in labels if label is not None]
    return known if known and len(known) == len(labels) else None
