"""Images in .tar files, among them WebDataset shards, read in any order without unpacking."""

from pathlib import Path
from typing import Any

from PIL import Image

from gensynth.data.files.pictures import HEAD_BYTES, all_captions, any_lossy, numbered
from gensynth.data.images import decode
from gensynth.data.reading.contents import LeftOut, in_words
from gensynth.data.reading.places import stamp_of
from gensynth.data.reading.tars import Columns, Member, bytes_of, samples_of


class TarImages:
    """The pictures of some .tar files in the order in which they lie there.

    One pass over the headers notes where each begins; after that any of them is one read. No file
    is held open, so that the object may be used in other processes.

    Args:
        archives: .tar files, not compressed.

    Attributes:
        labels: what the .cls or .json beside each picture says (WebDataset), if all have one.

    Raises:
        InputError: a file that is missing, compressed, cut off or no .tar.
    """

    def __init__(self, archives: list[Path]):
        self.archives = archives
        self.members: list[tuple[Path, Member]] = []
        values: list[Any] = []
        left_out = LeftOut()
        for archive in archives:
            for sample in samples_of(archive, Columns(), left_out):
                self.members.append((archive, sample.picture))
                values.append(sample.label)
        self.labels, self.classes = numbered(values)
        self.stamp = stamp_of(archives)
        names = [member.name for _, member in self.members]
        self.lossy = any_lossy(names, lambda index: self.encoded(index)[:HEAD_BYTES])
        known = None if self.labels is None else [str(label) for label in sorted(set(self.labels))]
        self.summary = in_words(len(self.members), self.classes or known, left_out)

    def __len__(self) -> int:
        return len(self.members)

    def encoded(self, index: int) -> bytes:
        """A picture as it is stored."""
        archive, member = self.members[index]
        with archive.open("rb") as stream:
            return bytes_of(stream, member)

    def image(self, index: int) -> Image.Image:
        return decode(self.encoded(index))

    def name_of(self, index: int) -> str:
        archive, member = self.members[index]
        return f"{member.name} of {archive}"

    def captions(self) -> list[list[str]] | None:
        said = {
            (archive, sample.picture.name): sample.captions
            for archive in self.archives
            for sample in samples_of(archive, Columns(texts=True), LeftOut())
        }
        values = [said.get((archive, member.name)) for archive, member in self.members]
        return all_captions(values, "the tars")
