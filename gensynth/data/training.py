"""The endless sequence of training images as a function of (seed, position).

Position p is image `order(seed, epoch)[p % n]` of epoch `p // n`. Step s holds positions
`s * batch_size` up to `(s + 1) * batch_size`; each process and micro-batch takes its slice. So a
run can resume at any step, with any number of processes or workers, and sees the same images.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from torch.utils import data as torch_data

from gensynth.config import Data
from gensynth.data.images import UNREADABLE, decode, fit, to_tensor
from gensynth.errors import CorruptError, UsageError
from gensynth.seeding import derived_seed

Streamed = tuple[dict[str, Any], tuple[int, int]]  # a row, and its (epoch, offset)


class Batch(NamedTuple):
    """Images of one micro-batch.

    images: uint8 [B, C, size, size]; labels: int64 [B]; unreadable: rows that could not be decoded
    and were replaced; cursor: (epoch, offset) of the step's first row when streaming, else None.
    """

    images: Tensor
    labels: Tensor
    unreadable: list[int]
    cursor: tuple[int, int] | None = None


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, length: int) -> Tensor:
    """The permutation of 0..length-1 in which one epoch visits the images."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(length, generator=generator)


def mirrored(seed: int, position: int) -> bool:
    """Whether the image at a position is flipped: a fair coin that anyone can toss again."""
    return bool(derived_seed(seed, "flip", position) & 1)


def prepare(row: dict[str, Any], data: Data) -> Tensor:
    """uint8 [C, size, size] of one row.

    Raises:
        one of `UNREADABLE`.
    """
    image = row["image"] or {}
    source = image.get("bytes") or image.get("path")
    if not source:
        raise ValueError("the row has no image")
    return to_tensor(fit(decode(source, data.channels, data.exif_rotate), data.size, data.fit))


class TrainingImages(torch_data.Dataset):
    """Training images by position. An unreadable one is replaced by the next of its epoch."""

    def __init__(self, rows: Dataset, data: Data, seed: int):
        self.rows, self.data, self.seed = rows, data, seed

    def __getitems__(self, positions: list[int]) -> Batch:
        images, labels, unreadable = [], [], []
        for position in positions:
            image, label, skipped = self.read(position)
            images.append(image)
            labels.append(label)
            unreadable += skipped
        return Batch(torch.stack(images), torch.tensor(labels), unreadable)

    def read(self, position: int) -> tuple[Tensor, int, list[int]]:
        """Image, label and the unreadable rows passed over at one position."""
        length = len(self.rows)
        epoch, offset = divmod(position, length)
        skipped: list[int] = []
        while len(skipped) < length:
            index = int(order(self.seed, epoch, length)[offset])
            row = self.rows[index]
            try:
                image = prepare(row, self.data)
            except UNREADABLE:
                skipped.append(index)
                offset = (offset + 1) % length
                continue
            if self.data.flip and mirrored(self.seed, position):
                image = image.flip(-1)
            return image, row.get("label", 0), skipped
        raise CorruptError("not one image of the data can be decoded.")


class Schedule(torch_data.Sampler[list[int]]):
    """The positions of each micro-batch of one process, from step `start` to step `stop`."""

    def __init__(
        self,
        start: int,
        stop: int,
        batch_size: int,
        micro_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.start, self.stop, self.batch_size = start, stop, batch_size
        self.micro_batches, self.rank, self.world_size = micro_batches, rank, world_size
        self.micro_size = batch_size // (micro_batches * world_size)

    def rows(self, micro: int) -> slice:
        """The rows of the global batch that micro-batch number `micro` of this process holds."""
        first = (micro * self.world_size + self.rank) * self.micro_size
        return slice(first, first + self.micro_size)

    def __len__(self) -> int:
        return (self.stop - self.start) * self.micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            for micro in range(self.micro_batches):
                rows = self.rows(micro)
                first = step * self.batch_size
                yield list(range(first + rows.start, first + rows.stop))


class StreamedImages(torch_data.IterableDataset):
    """The batches of one process, read from a stream in order.

    Every process reads the whole stream and decodes its own rows only, so that the order does not
    depend on the number of processes. An unreadable image is replaced by the nearest readable one
    of its step, those before it first.

    Args:
        num_classes: labels must be below.
        schedule: the steps and rows this process needs.
        position, cursor: a step's first position, and the (epoch, offset) of the stream there.
    """

    def __init__(
        self,
        rows: IterableDataset,
        data: Data,
        seed: int,
        num_classes: int,
        schedule: Schedule,
        position: int = 0,
        cursor: tuple[int, int] = (0, 0),
    ):
        self.data, self.seed, self.num_classes = data, seed, num_classes
        self.schedule, self.position, self.cursor = schedule, position, cursor
        # One input shard at a time: reading ahead of several makes each epoch end with a pause.
        self.rows = rows.shuffle(
            seed=seed, buffer_size=data.shuffle_buffer, max_buffer_input_shards=1
        )

    def __iter__(self) -> Iterator[Batch]:
        stream, size = self.stream(), self.schedule.batch_size
        for _ in range(self.position, self.schedule.start * size):
            next(stream)
        for step in range(self.schedule.start, self.schedule.stop):
            rows = [next(stream) for _ in range(size)]
            for micro in range(self.schedule.micro_batches):
                mine = range(size)[self.schedule.rows(micro)]
                read = [self.read(rows, index, step * size + index) for index in mine]
                images, labels, unreadable = zip(*read, strict=True)
                yield Batch(
                    torch.stack(images),
                    torch.tensor(labels),
                    [row for some in unreadable for row in some],
                    rows[0][1],
                )

    def read(
        self, rows: list[Streamed], index: int, position: int
    ) -> tuple[Tensor, int, list[int]]:
        """Image, label, and the position if it is unreadable, of row `index` of a step."""
        for nearest in [*range(index, -1, -1), *range(index + 1, len(rows))]:
            row = rows[nearest][0]
            try:
                image = prepare(row, self.data)
            except UNREADABLE:
                continue
            label = row.get("label", 0)
            if not isinstance(label, int) or not 0 <= label < self.num_classes:
                raise UsageError(
                    f"the stream has label {label!r}, but there are {self.num_classes} classes. "
                    "Set data.classes or data.label_column."
                )
            flip = self.data.flip and mirrored(self.seed, position)
            return image.flip(-1) if flip else image, label, [] if nearest == index else [position]
        raise CorruptError(f"not one of {len(rows)} images of the stream in a row can be decoded.")

    def stream(self) -> Iterator[Streamed]:
        """The rows from the cursor on, epoch after epoch, each with its (epoch, offset)."""
        epoch, offset = self.cursor
        while True:
            rows = self.rows.skip(offset)
            rows.set_epoch(epoch)  # after `skip`, which forgets it
            for row in rows:
                yield row, (epoch, offset)
                offset += 1
            if offset == 0:
                raise CorruptError("the data stream is empty.")
            epoch, offset = epoch + 1, 0
