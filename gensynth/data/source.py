"""What every source of pictures is: rows by number, or a stream, and what is known of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from datasets import Dataset, IterableDataset

from gensynth.data.reading.contents import EXAMPLES, LeftOut, in_words
from gensynth.data.reading.places import stamp_of
from gensynth.data.rows import AT_ONCE, CaptionedRows, LabelledRows, TarRows

# That a vocabulary is made from; fewer of a stream, where pictures have to be read on the way.
MOST_CAPTIONS, MOST_STREAMED = 200_000, 20_000
ONE_CLASS = ["image"]  # of pictures that have none


@dataclass
class Source:
    """Rows {"image": {"bytes", "path"}, "label": int}, and the names of the classes.

    Rows of source encoded are {"latents": bytes, "label": int}, see `gensynth.data.encoded`.
    Without classes there is no label, and one class of the name "image".

    Attributes:
        captioned: rows have `text`, the captions of a picture, at least one, and no label.
        left_out, notes: what was not read, and how the rest was.
        files: that the rows are read from; None if `datasets` knows.
    """

    rows: LabelledRows | CaptionedRows | TarRows | Dataset | IterableDataset
    classes: list[str]
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: list[str] = field(default_factory=list)
    files: list[Path] | None = None
    captioned: bool = False

    @property
    def streamed(self) -> bool:
        return isinstance(self.rows, IterableDataset)

    @property
    def summary(self) -> str:
        """What was read and what was left out, in words."""
        count = None if self.streamed else len(self.rows)
        captions = None
        if self.captioned:  # of a stream none is read before the run begins
            some = () if self.streamed else self.captions()
            captions = [texts[0] for texts in islice(some, EXAMPLES)]
        return in_words(count, self.classes, self.left_out, self.notes, captions)

    def labels(self) -> list[int] | None:
        """The class of every row; None for streams and without classes."""
        if isinstance(self.rows, Dataset):
            return self.rows["label"][:] if "label" in self.rows.column_names else None
        if self.streamed or isinstance(self.rows, CaptionedRows) or self.rows.labels is None:
            return None
        return list(map(int, self.rows.labels))

    def captions(self) -> Iterator[list[str]]:
        """The captions of each picture, in the order of the rows; only a stream reads pictures."""
        assert self.captioned
        if isinstance(self.rows, CaptionedRows | TarRows):
            yield from self.rows.captions()
        elif isinstance(self.rows, Dataset):
            for some in self.rows.select_columns("text").iter(AT_ONCE):
                yield from some["text"]
        else:
            yield from (row["text"] for row in self.rows)

    def some_captions(self) -> list[str]:
        """The captions of the first pictures, so many that a vocabulary can be made from them."""
        most = MOST_STREAMED if self.streamed else MOST_CAPTIONS
        return list(islice(chain.from_iterable(self.captions()), most))

    def stamp(self) -> str:
        """A text that changes when the data change."""
        if self.files is not None:
            return stamp_of(self.files)
        rows = self.rows.rows if isinstance(self.rows, LabelledRows | CaptionedRows) else self.rows
        assert not isinstance(rows, TarRows)  # they come with their files
        return str(rows._fingerprint)  # of the files, and of what was done to the rows since

    def name_of(self, row: int) -> str:
        """How to find an image again: its file, or its row."""
        if not self.streamed:
            path = (self.rows[row].get("image") or {}).get("path")
            if path and (isinstance(self.rows, TarRows) or Path(path).is_file()):
                return str(path)
        return f"row {row}"
