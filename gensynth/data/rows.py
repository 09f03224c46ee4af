"""Rows {"image": {"bytes", "path"}, "label": int} of tars, and of tables with other labels.

Where captions are wanted, rows have `text`, a list of at least one, instead of a label.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from gensynth.data.reading.captions import captions_of
from gensynth.data.reading.contents import LeftOut
from gensynth.data.reading.labels import Labels
from gensynth.data.reading.tars import Columns, Member, Sample, bytes_of, samples_of

Row = dict[str, Any]
AT_ONCE = 10_000  # captions


class LabelledRows:
    """Some rows of a dataset, with labels of their own."""

    def __init__(self, rows: Dataset, numbers: Sequence[int], labels: Sequence[int]):
        self.rows = rows
        self.numbers, self.labels = np.asarray(numbers, np.int64), np.asarray(labels, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Row:
        return {**self.rows[int(self.numbers[number])], "label": int(self.labels[number])}


class CaptionedRows:
    """Those rows of a dataset whose column `text` says something, with their captions in a list.

    Args:
        name: of the column, as it was stored.
        left_out: counts the others.
    """

    def __init__(self, rows: Dataset, name: str, left_out: LeftOut):
        self.rows, self.name = rows, name
        kept = []
        for row, captions in enumerate(self._all()):
            if captions:
                kept.append(row)
            else:
                left_out.add("without a caption", f"row {row}")
        self.numbers = np.asarray(kept, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Row:
        row = self.rows[int(self.numbers[number])]
        return {**row, "text": captions_of(row["text"], self.name)}

    def captions(self) -> Iterator[list[str]]:
        """The captions of each row; no picture is read."""
        return filter(None, self._all())

    def _all(self) -> Iterator[list[str]]:
        for some in self.rows.select_columns("text").iter(AT_ONCE):
            for value in some["text"]:
                yield captions_of(value, self.name)


class TarRows:
    """The pictures of some .tar files, read where they lie.

    Args:
        samples: in order, each with the number of its archive.
        labels: by sample; None for pictures without classes.
        captioned: the samples have captions, and no labels.
    """

    def __init__(
        self,
        archives: Sequence[Path],
        samples: Sequence[tuple[int, Sample]],
        labels: Sequence[int] | None = None,
        captioned: bool = False,
    ):
        self.archives = list(archives)
        # arrays: millions of Python objects would be copied into every worker, one by one
        places = [(at, sample.picture.offset, sample.picture.size) for at, sample in samples]
        self.places = np.asarray(places, np.int64).reshape(-1, 3)
        names = [sample.picture.name.encode(errors="surrogateescape") for _, sample in samples]
        self.names = pa.array(names, pa.large_binary())
        self.labels = None if labels is None else np.asarray(labels, np.int64)
        texts = [sample.captions for _, sample in samples] if captioned else None
        self.texts = None if texts is None else pa.array(texts, pa.large_list(pa.large_string()))

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Row:
        archive, offset, size = map(int, self.places[number])
        name = self.names[number].as_py().decode(errors="surrogateescape")
        with self.archives[archive].open("rb") as stream:
            content = bytes_of(stream, Member(name, offset, size))
        row: Row = {"image": {"bytes": content, "path": f"{name} of {self.archives[archive]}"}}
        if self.texts is not None:
            return {**row, "text": self.texts[number].as_py()}
        return row if self.labels is None else {**row, "label": int(self.labels[number])}

    def captions(self) -> Iterator[list[str]]:
        """The captions of each row; no picture is read."""
        assert self.texts is not None
        return (texts.as_py() for texts in self.texts)


def stream_of_tars(archives: list[Path], columns: Columns, labels: Labels | None) -> Iterator[Row]:
    """The rows of some .tar files, one after the other, with captions if there are no `labels`.

    Those without are passed over.
    """
    name = "text" if labels is None else "label"
    for path in archives:
        with path.open("rb") as stream:
            for sample in samples_of(path, columns, LeftOut()):
                told = sample.captions if labels is None else labels.number(sample.label)
                if told is not None:
                    content = bytes_of(stream, sample.picture)
                    yield {"image": {"bytes": content, "path": sample.picture.name}, name: told}


def stream_of_files(files: list[str], told: list[Any], name: str = "label") -> Iterator[Row]:
    """The rows of picture files, one after the other; `name` is what is told of them."""
    for file, one in zip(files, told, strict=True):
        yield {"image": {"bytes": None, "path": file}, name: one}
