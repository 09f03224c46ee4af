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
from gensynth.errors import CorruptError
from gensynth.seeding import derived_seed

Readable = tuple[Tensor, int]


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
    depend on the number of processes. An unreadable image is replaced by the one before it.

    Args:
        schedule: the positions this process needs, in rising order.
        position, cursor: a position, and the (epoch, offset) at which the stream stands there.
    """

    def __init__(
        self,
        rows: IterableDataset,
        data: Data,
        seed: int,
        schedule: Schedule,
        position: int = 0,
        cursor: tuple[int, int] = (0, 0),
    ):
        self.data, self.seed, self.schedule = data, seed, schedule
        self.position, self.cursor = position, cursor
        # One input shard at a time: reading ahead of several makes each epoch end with a pause.
        self.rows = rows.shuffle(
            seed=seed, buffer_size=data.shuffle_buffer, max_buffer_input_shards=1
        )

    def __iter__(self) -> Iterator[Batch]:
        stream = enumerate(self.stream(), start=self.position)
        step_cursor = self.cursor
        last: Readable | None = None
        for positions in self.schedule:
            found: list[Readable | None] = []
            while len(found) < len(positions):
                position, (row, cursor) = next(stream)
                if position % self.schedule.batch_size == 0:
                    step_cursor = cursor
                if position >= positions[0]:
                    found.append(self.read(row, position))
            unreadable = [p for p, item in zip(positions, found, strict=True) if item is None]
            # Before the first readable image of all, the next one stands in.
            last = last or next(filter(None, found), None)
            if last is None:
                raise CorruptError("the data stream begins with a whole batch of unreadable images")
            whole: list[Readable] = []
            for item in found:
                last = item or last
                whole.append(last)
            images = torch.stack([image for image, _ in whole])
            labels = torch.tensor([label for _, label in whole])
            yield Batch(images, labels, unreadable, step_cursor)

    def read(self, row: dict[str, Any], position: int) -> "Readable | None":
        """Image and label of one row, or None if it cannot be decoded."""
        try:
            image = prepare(row, self.data)
        except UNREADABLE:
            return None
        flip = self.data.flip and mirrored(self.seed, position)
        return (image.flip(-1) if flip else image), row.get("label", 0)

    def stream(self) -> Iterator[tuple[dict[str, Any], tuple[int, int]]]:
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
