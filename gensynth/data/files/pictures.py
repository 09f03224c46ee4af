"""Encoded pictures by number: the files of a folder, or the rows of a dataset."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from PIL import Image

from gensynth.config import Data
from gensynth.data.images import decode
from gensynth.data.reading.captions import TEXT_COLUMNS, captions_of
from gensynth.data.reading.contents import in_words
from gensynth.data.reading.endings import natural
from gensynth.data.reading.folder import ONE_KIND, PictureFolder
from gensynth.data.reading.labels import Labels
from gensynth.data.reading.places import stamp_of
from gensynth.data.rows import LabelledRows
from gensynth.data.sources import open_source
from gensynth.data.tables import load_rows
from gensynth.errors import InputError, UsageError
from gensynth.files import read_json_lines

T = TypeVar("T")
HEAD_BYTES = 64  # of a file, enough to see how it is compressed


class Pictures(Protocol):
    """Pictures by number, before they are brought to a size; to be used in any process.

    Attributes:
        labels, classes: the class of each picture, and the names of classes, where they are known.
        lossy: stored as JPEG or the like.
        stamp: changes when the files change.
        summary: what was read and what was left out, in words.
    """

    labels: list[int] | None
    classes: list[str] | None
    lossy: bool
    stamp: str
    summary: str

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """A picture of mode L or RGB.

        Raises:
            one of `gensynth.data.images.UNREADABLE`, or an error with what to do.
        """

    def name_of(self, index: int) -> str:
        """How to find a picture."""

    def captions(self) -> list[list[str]] | None:
        """All captions of each picture; None if none has one."""


class Files:
    """Picture files, in the order given.

    Attributes:
        labels: those in the manifest of `gensynth sample`; otherwise what the folder says. Folders
            that are numbers are the numbers of their classes.

    Args:
        captioned: reads the folder again, for captions.
    """

    def __init__(self, found: PictureFolder, captioned: Callable[[], PictureFolder] | None = None):
        self.files, self.folder, self.captioned = found.files, found.folder, captioned
        self.stamp = stamp_of(found.files)
        self.labels = _drawn_labels(found.files, found.folder)
        self.classes: list[str] | None = None
        if self.labels is None and found.labels is not None:
            of = _of_folders if found.by_folders else numbered
            self.labels, self.classes = of(found.labels)
        self.lossy = any_lossy([file.name for file in found.files], self._head)
        names = self.classes
        if names is None and self.labels is not None:
            names = [str(label) for label in sorted(set(self.labels))]
        notes = [note for note in found.notes if note != ONE_KIND or self.labels is None]
        self.summary = in_words(len(found.files), names, found.left_out, notes)

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> Image.Image:
        return decode(str(self.files[index]))

    def name_of(self, index: int) -> str:
        return str(self.files[index])

    def captions(self) -> list[list[str]] | None:
        """Prompts in the manifest of `gensynth sample`; otherwise what the folder says."""
        drawn = _drawn_prompts(self.files, self.folder)
        if drawn is not None:
            return [[prompt] if prompt else [] for prompt in drawn]
        if self.captioned is None:
            return None
        try:
            found = self.captioned()
        except UsageError:  # there are none
            return None
        said = dict(zip(found.files, found.captions or (), strict=True))
        return all_captions([said.get(file) for file in self.files], str(self.folder))

    def _head(self, index: int) -> bytes:
        return _content(self.files[index], HEAD_BYTES)


class Rows:
    """The images of a dataset, see `gensynth.data.sources`.

    Raises:
        InputError, UsageError: as `open_source`.
    """

    def __init__(self, data: Data):
        source = open_source(data)
        self.rows, self.data = source.rows, data
        self.channels = data.channels
        self.place = f"{data.path or data.source} {data.split}"
        self.stamp = source.stamp()
        self.summary = source.summary
        labels = source.labels()
        self.labels = None if labels is None else list(labels)
        self.classes: list[str] | None = None
        # Numbers are not names: another set may know those.
        numbers = [str(label) for label in range(len(source.classes))]
        if labels is not None and source.classes != numbers:
            self.classes = source.classes
        self.lossy = len(self.rows) > 0 and is_lossy(self._encoded(0)[:HEAD_BYTES])

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> Image.Image:
        return decode(self._encoded(index), self.channels)

    def name_of(self, index: int) -> str:
        return f"row {index} of {self.place}"

    def captions(self) -> list[list[str]] | None:
        stored = load_rows(self.data)
        column = next((name for name in TEXT_COLUMNS if name in stored.column_names), None)
        if column is None or not _holds_texts(stored.features[column]):
            return None
        values = stored.select_columns(column)[column][:]
        if isinstance(self.rows, LabelledRows):  # some of them
            values = [values[row] for row in self.rows.numbers]
        return all_captions(values, f"the column {column} of {self.place}")

    def _encoded(self, index: int) -> bytes:
        image = self.rows[index]["image"] or {}
        if not image.get("bytes") and image.get("path"):
            return _content(Path(image["path"]))
        return image.get("bytes") or b""


def all_captions(values: Sequence[Any], where: str) -> list[list[str]] | None:
    """The captions of each value; None if none says anything."""
    found = [captions_of(value, where) for value in values]
    return found if any(found) else None


def _holds_texts(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature)  # of a list
    return "string" in getattr(inner, "dtype", "")


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
    return all_known(_manifest(files, folder, "label", int))


def _drawn_prompts(files: list[Path], folder: Path) -> list[str] | None:
    found: list[str] = all_known(_manifest(files, folder, "prompt", str)) or []
    return found if any(found) else None


def _manifest(files: list[Path], folder: Path, key: str, kind: type) -> list[Any]:
    """What the manifest of `gensynth sample` says of each picture; None where it does not."""
    known = {}
    for entry in read_json_lines(folder / "manifest.jsonl"):
        if isinstance(entry, dict) and isinstance(entry.get(key), kind):
            known[str(entry.get("index"))] = entry[key]
    return [known.get(file.stem.lstrip("0") or "0") for file in files]


def numbered(values: list[Any]) -> tuple[list[int] | None, list[str] | None]:
    """The labels of pictures, if all have one, and the names of classes that are not just numbers.

    Raises:
        UsageError: values that are no classes.
    """
    names = Labels(values)
    labels = all_known([names.number(value) for value in values])
    plain = names.classes == [str(number) for number in range(len(names.classes))]
    return labels, None if plain or labels is None else names.classes


def _of_folders(names: list[str]) -> tuple[list[int], list[str] | None]:
    """The labels of pictures in folders, and the names of classes; None if those are numbers."""
    numbers = {name: int(name) for name in names if name.isdecimal()}
    if len(set(numbers.values())) == len(set(names)):  # 1 and 01 are two folders
        return [numbers[name] for name in names], None
    order = {name: number for number, name in enumerate(sorted(set(names), key=natural))}
    return [order[name] for name in names], list(order)


def all_known(values: list[T | None]) -> list[T] | None:
    """Labels or prompts if there are any and none is missing."""
    known = [value for value in values if value is not None]
    return known if known and len(known) == len(values) else None
