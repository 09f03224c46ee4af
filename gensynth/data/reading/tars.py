"""The pictures in .tar files, such as WebDataset shards: where each lies, and what its sample says.

What is said is a label, or captions: in a member `.txt` (one in each line), or a key of a `.json`.

A sample is what has the same name up to the first dot: `007.jpg`, `007.cls`, `007.json`. Names with
dots of their own (`img.007.jpg` beside `img.007.cls`) are samples up to the last.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gensynth.data.reading.captions import TEXT_COLUMNS, captions_of, lines_of
from gensynth.data.reading.contents import LeftOut
from gensynth.data.reading.endings import ENDINGS
from gensynth.data.reading.labels import LABEL_COLUMNS
from gensynth.errors import InputError

# Which of several pictures of a sample is meant.
PREFERRED = ("image", "img", "jpg", "jpeg", "png", "webp")
# How compressed files begin: gzip, bzip2, xz, zstandard.
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
JSON = ("json", "jsn")
CAPTION_MEMBERS = ("txt", *TEXT_COLUMNS)
# What tarfile raises for damaged headers; the last three for numbers and names made up in them.
DAMAGED = (OSError, EOFError, tarfile.TarError, ValueError, OverflowError, RecursionError)
LARGEST = 2**20  # bytes of a member that says something about a picture


class Member(NamedTuple):
    """Where a file lies in a .tar: its first byte, and how many."""

    name: str
    offset: int
    size: int


class Sample(NamedTuple):
    """A picture, and the value of its label or its captions; None if its sample has none."""

    picture: Member
    label: Any = None
    captions: list[str] | None = None


class Columns(NamedTuple):
    """Which members of a sample are its picture and what is said of it; None for the usual ones.

    texts: captions are read, and no labels.
    """

    image: str | None = None
    label: str | None = None
    text: str | None = None
    texts: bool = False

    @property
    def said(self) -> tuple[str, ...]:
        """The members, or keys of a `.json`, that say something of a picture."""
        given = self.text if self.texts else self.label
        return (given,) if given else CAPTION_MEMBERS if self.texts else LABEL_COLUMNS


def samples_of(path: Path, columns: Columns, left_out: LeftOut) -> Iterator[Sample]:
    """The samples with a picture of one .tar, in the order in which they lie there.

    Raises:
        InputError: a file that is missing, compressed, cut off or no .tar.
    """
    told: dict[str, Any] = {}  # labels or captions by key
    pictures: dict[str, list[Member]] = {}  # by the name up to the first dot
    members = list(members_of(path))
    with path.open("rb") as stream:
        for member in members:
            key, ending = split_key(member.name)
            if is_picture_ending(ending, columns):
                pictures.setdefault(key, []).append(member)
            elif member.size > LARGEST or not may_say(ending, columns):
                left_out.add("other files", member.name)
            else:
                name = f"{member.name} of {path}"
                value = said_by(bytes_of(stream, member), ending, columns, name)
                if value is not None:
                    # `img.007.cls` is of `img.007`, `007.cls` of `007`
                    for of in (member.name.rpartition(".")[0], key):
                        if of not in told or (columns.texts and not is_json(ending)):
                            told[of] = value  # a `.txt` beside a `.json` says it in plain words
    for key, found in pictures.items():
        for member in chosen_pictures(found, columns, left_out):
            own = member.name.rpartition(".")[0]
            value = told.get(own, told.get(key) if len(found) == 1 or own == key else None)
            yield Sample(member, captions=value) if columns.texts else Sample(member, value)


def chosen_pictures(found: list[Member], columns: Columns, left_out: LeftOut) -> list[Member]:
    """Which members with one name up to the first dot are pictures of their own.

    If one is called `NAME.jpg` it is the picture, and `NAME.mask.png` something about it; if all
    have further dots, each is a picture.
    """
    plain = [member for member in found if "." not in split_key(member.name)[1]]
    if columns.image is not None or not plain:
        return found
    first = min(plain, key=lambda member: _rank(split_key(member.name)[1]))
    for member in found:
        if member is not first:
            left_out.add("further pictures of a sample", member.name)
    return [first]


def _rank(ending: str) -> int:
    return PREFERRED.index(ending) if ending in PREFERRED else len(PREFERRED)


def is_picture_ending(ending: str, columns: Columns) -> bool:
    if columns.image is not None:
        return ending == columns.image.lower()
    return f".{ending.rpartition('.')[2]}" in ENDINGS


def is_json(ending: str) -> bool:
    return ending.rpartition(".")[2] in JSON


def may_say(ending: str, columns: Columns) -> bool:
    wanted = [name.lower() for name in columns.said]
    return is_json(ending) or ending.rpartition(".")[2] in wanted or ending in wanted


def said_by(content: bytes, ending: str, columns: Columns, name: str) -> Any:
    """The label, or the captions, in a member; None if it says nothing.

    Raises:
        InputError: a damaged .json or .txt.
        UsageError: captions that are no texts.
    """
    if is_json(ending):
        value = _of_json(content, ending, columns, name)
        return (captions_of(value, name) or None) if columns.texts else value
    return (lines_of(content, name) or None) if columns.texts else content


def _of_json(content: bytes, ending: str, columns: Columns, name: str) -> Any:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON: {error}. Mend or remove it.") from error
    if not isinstance(tree, dict):
        given = columns.text if columns.texts else columns.label
        return tree if given and ending == given.lower() else None
    return next((tree[key] for key in columns.said if key in tree), None)


def said_in(path: Path) -> list[str]:
    """The endings of the members of a .tar, and the keys of its first `.json`, to name them."""
    endings, keys = dict[str, None](), list[str]()
    with path.open("rb") as stream:
        for member in members_of(path):
            ending = split_key(member.name)[1]
            endings[f".{ending}"] = None
            if is_json(ending) and not keys and member.size <= LARGEST:
                tree = json.loads(bytes_of(stream, member))
                keys = [f"the key {key}" for key in tree] if isinstance(tree, dict) else []
    return [*endings, *keys]


def members_of(path: Path) -> Iterator[Member]:
    """The files in a .tar without those that are hidden.

    Raises:
        InputError: a file that is missing, compressed, cut off or no .tar.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(8).startswith(COMPRESSED):
                raise InputError(
                    f"{path} is compressed, so that its pictures cannot be read one by one. Unpack "
                    f"it into a folder and give that: tar -xf {path} -C FOLDER."
                )
            with tarfile.open(path, "r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined] # it would keep them all
                    if member.isreg() and not member.name.rpartition("/")[2].startswith("."):
                        yield Member(member.name, member.offset_data, member.size)
                end = archive.offset
            # tarfile takes whatever is no header for the end; only a block of zeros is one.
            block = bytes_of(stream, Member("", end, tarfile.BLOCKSIZE))
            if block != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("unexpected end of data")
    except DAMAGED as error:
        raise InputError(
            f"{path} cannot be read as a .tar: {error}. A damaged file has to be fetched again."
        ) from error


def bytes_of(stream: BinaryIO, member: Member) -> bytes:
    """The content of a member."""
    stream.seek(member.offset)
    return stream.read(member.size)


def split_key(name: str) -> tuple[str, str]:
    """`a/007.seg.PNG` -> ("a/007", "seg.png"): the name up to its first dot, and the rest."""
    folder, slash, file = name.rpartition("/")
    key, _, ending = file.partition(".")
    return folder + slash + key, ending.lower()
