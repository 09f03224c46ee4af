"""Images in .tar files, among them WebDataset shards, read in any order without unpacking."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gensynth.data.files.pictures import ENDINGS, HEAD_BYTES, all_known, any_lossy, stamp_of
from gensynth.data.images import decode
from gensynth.errors import InputError

# How compressed files begin: gzip, bzip2, xz, zstandard.
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


class Member(NamedTuple):
    """Where a file lies in a .tar: its first byte, and how many."""

    archive: Path
    name: str
    offset: int
    size: int


class TarImages:
    """The pictures of some .tar files in the order in which they lie there.

    One pass over the headers notes where each begins; after that any of them is one read. No file
    is held open, so that the object may be used in other processes.

    Args:
        archives: .tar files, not compressed.

    Attributes:
        labels: the number in the .cls member beside each picture (WebDataset), if all have one.

    Raises:
        InputError: a file that is missing, compressed, cut off or no .tar.
    """

    classes: list[str] | None = None

    def __init__(self, archives: list[Path]):
        self.members: list[Member] = []
        labels: dict[tuple[Path, str], int] = {}
        for archive in archives:
            for member in _members(archive):
                if member.name.lower().endswith(ENDINGS):
                    self.members.append(member)
                elif member.name.endswith(".cls") and (text := _bytes(member).strip()).isdigit():
                    labels[archive, _key(member.name)] = int(text)
        found = [labels.get((member.archive, _key(member.name))) for member in self.members]
        self.labels = all_known(found)
        self.stamp = stamp_of(archives)
        names = [member.name for member in self.members]
        self.lossy = any_lossy(names, lambda index: self.encoded(index)[:HEAD_BYTES])

    def __len__(self) -> int:
        return len(self.members)

    def encoded(self, index: int) -> bytes:
        """A picture as it is stored."""
        return _bytes(self.members[index])

    def image(self, index: int) -> Image.Image:
        return decode(self.encoded(index))

    def name_of(self, index: int) -> str:
        return f"{self.members[index].name} of {self.members[index].archive}"


def _members(path: Path) -> Iterator[Member]:
    """The files in a .tar without those that are hidden."""
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
                    yield Member(path, member.name, member.offset_data, member.size)
            end = archive.offset
        # tarfile takes whatever is no header for the end; only a block of zeros is one.
        if _bytes(Member(path, "", end, tarfile.BLOCKSIZE)) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("unexpected end of data")
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InputError(
            f"{path} cannot be read as a .tar: {error}. A damaged file has to be fetched again."
        ) from error


def _key(name: str) -> str:
    """What the members of one WebDataset sample share: the name up to its first dot."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _bytes(member: Member) -> bytes:
    with member.archive.open("rb") as stream:
        stream.seek(member.offset)
        return stream.read(member.size)
