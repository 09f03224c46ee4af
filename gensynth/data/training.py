"""The endless sequence of training images as a function of (seed, position).

Position p is image `order(seed, epoch)[p % n]` of epoch `p // n`. Step s holds positions
`s * batch_size` up to `(s + 1) * batch_size`; each process and micro-batch takes its slice. So a
run can resume at any step, with any number of processes or workers, and sees the same images.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from datasets import Dataset, IterableDataset
from PIL.Image import Image
from torch import Tensor
from torch.utils import data as torch_data

from gensynth.config import Data
from gensynth.data.images import UNREADABLE, Crop, decode, fit, to_tensor, zoomed_crop
from gensynth.data.reading.captions import chosen_caption
from gensynth.errors import CorruptError, UsageError
from gensynth.seeding import derived_seed

Streamed = tuple[dict[str, Any], tuple[int, int]]  # a row, and its (epoch, offset)


class Batch(NamedTuple):
    """Images of one micro-batch.

    images: uint8 [B, C, size, size], None if they were encoded before; labels: int64 [B];
    unreadable: rows that could not be decoded and were replaced; cursor: (epoch, offset) of the
    step's first row when streaming, else None; crops: float32 [B, 4] with data.zoom, else None:
    height and width of each resized image, top and left of the square cut out of it, all in
    positions of the latents. They are those before mirroring: a mirrored image is the mirrored
    crop. latents: float32 [B, C, h, w] or tokens int64 [B, h, w] if they were encoded before.
    texts: a caption for each image, where captions are read; labels are then 0. captions: all of
    each image, only on the way to being encoded.
    """

    images: Tensor | None
    labels: Tensor
    unreadable: list[int]
    cursor: tuple[int, int] | None = None
    crops: Tensor | None = None
    latents: Tensor | None = None
    texts: list[str] | None = None
    captions: list[list[str]] | None = None


class View(NamedTuple):
    """What the model is shown of one image: uint8 [C, size, size], and where it was cut out.

    text: the caption it is told with it, if there are captions.
    """

    image: Tensor
    crop: Crop | None
    text: str | None = None


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, length: int) -> Tensor:
    """The permutation of 0..length-1 in which one epoch visits the images."""
    # A pure function of seed and epoch, on the CPU: nothing of it has to be saved in a checkpoint.
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(length, generator=generator)


def mirrored(seed: int, position: int) -> bool:
    """Whether the image at a position is flipped: a fair coin that depends on nothing else."""
    return bool(derived_seed(seed, "flip", position) & 1)


def zoom_draws(seed: int, position: int) -> tuple[float, float, float]:
    """How far the image at a position is zoomed and cut, each from [0, 1): zoom, down, across."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "zoom", position))
    zoom, down, across = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    return zoom, down, across


def prepare(row: dict[str, Any], data: Data) -> Tensor:
    """uint8 [C, size, size] of one row.

    Raises:
        one of `UNREADABLE`.
    """
    return to_tensor(fit(_decoded(row, data), data.size, data.fit))


def training_view(row: dict[str, Any], data: Data, seed: int, position: int) -> View:
    """One row as it is trained on at a position: cut out and mirrored as the seed says.

    Raises:
        one of `UNREADABLE`.
    """
    crop = None
    if data.zoom is None:
        image = prepare(row, data)
    else:
        share, down, across = zoom_draws(seed, position)
        zoom = data.zoom[0] + share * (data.zoom[1] - data.zoom[0])
        square, crop = zoomed_crop(_decoded(row, data), data.size, zoom, down, across)
        image = to_tensor(square)
    if data.flip and mirrored(seed, position):
        image = image.flip(-1)
    captions = row.get("text")
    return View(image, crop, chosen_caption(captions, seed, position) if captions else None)


def stacked(views: Sequence[View], patch: int) -> tuple[Tensor, Tensor | None]:
    """Images [B, C, size, size] and their crops [B, 4] in squares of `patch` pixels, if any."""
    images = torch.stack([view.image for view in views])
    crops = [view.crop for view in views if view.crop is not None]
    return images, torch.tensor(crops, dtype=torch.float32) / patch if crops else None


def told(views: Sequence[View]) -> list[str] | None:
    """The captions of some views, if they have any: all or none do."""
    texts = [view.text for view in views if view.text is not None]
    return texts or None


def streamed_label(row: dict[str, Any], num_classes: int) -> int:
    """The label of a row, 0 without one; checked here, as a stream's labels are not known before.

    Raises:
        UsageError: it is not one of the classes.
    """
    label = row.get("label", 0)
    if not isinstance(label, int) or not 0 <= label < num_classes:
        raise UsageError(
            f"the stream has label {label!r}, but there are {num_classes} classes. "
            "Set data.classes or data.label_column."
        )
    return label


def _decoded(row: dict[str, Any], data: Data) -> Image:
    image = row["image"] or {}
    source = image.get("bytes") or image.get("path")
    if not source:
        raise ValueError("the row has no image")
    return decode(source, data.channels, data.exif_rotate)


class TrainingImages(torch_data.Dataset):
    """Training images by position. An unreadable one is replaced by the next of its epoch.

    `patch` is the side in pixels of a position of the latents.
    """

    def __init__(self, rows: Dataset, data: Data, seed: int, patch: int = 1):
        self.rows, self.data, self.seed, self.patch = rows, data, seed, patch

    def __getitems__(self, positions: list[int]) -> Batch:
        views, labels, unreadable = [], [], []
        for position in positions:
            view, label, skipped = self.read(position)
            views.append(view)
            labels.append(label)
            unreadable += skipped
        images, crops = stacked(views, self.patch)
        labelled = torch.tensor(labels)
        return Batch(images, labelled, unreadable, crops=crops, texts=told(views))

    def read(self, position: int) -> tuple[View, int, list[int]]:
        """View, label and the unreadable rows passed over at one position."""
        length = len(self.rows)
        epoch, offset = divmod(position, length)
        skipped: list[int] = []
        while len(skipped) < length:
            index = int(order(self.seed, epoch, length)[offset])
            row = self.rows[index]
            try:
                view = training_view(row, self.data, self.seed, position)
            except UNREADABLE:  # counted by the caller, and never without a replacement
                skipped.append(index)
                offset = (offset + 1) % length
                continue
            return view, row.get("label", 0), skipped
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
        # Micro-batches first, then processes: all processes together hold a contiguous part.
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
        patch: side in pixels of a position of the latents.
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
        patch: int = 1,
    ):
        self.data, self.seed, self.num_classes, self.patch = data, seed, num_classes, patch
        self.schedule, self.position, self.cursor = schedule, position, cursor
        # One input shard at a time: reading ahead of several makes each epoch end with a pause.
        self.rows = rows.shuffle(
            seed=seed, buffer_size=data.shuffle_buffer, max_buffer_input_shards=1
        )

    def __iter__(self) -> Iterator[Batch]:
        stream, size = self.stream(), self.schedule.batch_size
        # The cursor is that of an earlier step; what lies between is read and not decoded.
        for _ in range(self.position, self.schedule.start * size):
            next(stream)
        for step in range(self.schedule.start, self.schedule.stop):
            rows = [next(stream) for _ in range(size)]
            for micro in range(self.schedule.micro_batches):
                mine = range(size)[self.schedule.rows(micro)]
                read = [self.read(rows, index, step * size + index) for index in mine]
                views, labels, unreadable = zip(*read, strict=True)
                images, crops = stacked(views, self.patch)
                yield Batch(
                    images,
                    torch.tensor(labels),
                    [row for some in unreadable for row in some],
                    rows[0][1],
                    crops,
                    texts=told(views),
                )

    def read(self, rows: list[Streamed], index: int, position: int) -> tuple[View, int, list[int]]:
        """View, label, and the position if it is unreadable, of row `index` of a step."""
        for nearest in [*range(index, -1, -1), *range(index + 1, len(rows))]:
            row = rows[nearest][0]
            try:
                view = training_view(row, self.data, self.seed, position)
            except UNREADABLE:
                continue  # neighbours of the same step: the stream itself never moves on
            label = streamed_label(row, self.num_classes)
            return view, label, [] if nearest == index else [position]
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
                raise CorruptError(
                    "the data stream is empty: no pictures, or none with a label or caption."
                )
            epoch, offset = epoch + 1, 0
