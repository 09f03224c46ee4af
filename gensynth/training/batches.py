"""The micro-batches of one process, and the count of images that cannot be decoded."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from gensynth.config import Data, Training
from gensynth.data.sources import Source
from gensynth.data.training import Batch, Schedule, StreamedImages, TrainingImages
from gensynth.errors import CorruptError, UsageError
from gensynth.training.faults import ignore_signals

FEWEST_STREAMED = 1000  # images before the share of unreadable ones in a stream means anything


def check_split(settings: Training, processes: int) -> None:
    """Refuses a batch that cannot be split evenly over processes and accumulation steps."""
    parts = processes * settings.gradient_accumulation
    if settings.batch_size % parts:
        raise UsageError(
            f"training.batch_size {settings.batch_size} cannot be split over {processes} "
            f"processes times {settings.gradient_accumulation} accumulation steps; "
            f"make it a multiple of {parts}."
        )


def load_batches(
    source: Source,
    data: Data,
    seed: int,
    schedule: Schedule,
    cursor: tuple[int, tuple[int, int]],
    device: torch.device,
) -> Iterator[Batch]:
    """The batches of a schedule, decoded ahead by worker processes.

    Args:
        cursor: for streams, a position and the (epoch, offset) at which the stream stands there.
    """
    options: dict[str, Any]
    if source.streamed:
        dataset: Any = StreamedImages(source.rows, data, seed, schedule, *cursor)
        # Always one worker: datasets shuffles otherwise inside a worker than outside.
        options, workers = {"batch_size": None}, 1
    else:
        dataset = TrainingImages(source.rows, data, seed)
        options = {"batch_sampler": schedule, "collate_fn": _as_it_is}
        workers = data.workers
    loader = DataLoader(
        dataset,
        num_workers=workers,
        worker_init_fn=ignore_signals,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
        **options,
    )
    return iter(loader)


def _as_it_is(batch: Batch) -> Batch:
    return batch


class Unreadable:
    """The rows that could not be decoded; too many end the run.

    Args:
        share: largest share of them among the images of the data, or seen so far in a stream.
        length: number of images; None for a stream.
    """

    def __init__(self, share: float, length: int | None):
        self.share, self.length = share, length
        self.rows: set[int] = set()

    def add(self, rows: list[int], seen: int) -> str | None:
        """A warning if some of `rows` are new; `seen` is the number of images so far.

        Raises:
            CorruptError: there are too many.
        """
        new = set(rows) - self.rows
        if not new:
            return None
        self.rows |= new
        count = max(seen, FEWEST_STREAMED) if self.length is None else self.length
        if len(self.rows) > self.share * count:
            some = ", ".join(map(str, sorted(self.rows)[:10]))
            raise CorruptError(
                f"{len(self.rows)} of {count} images cannot be decoded, more than "
                f"data.max_corrupt {self.share:g} allows; rows {some}. "
                "Repair the data or raise the limit."
            )
        return (
            f"warning: {len(self.rows)} unreadable images skipped so far (newest: row {max(new)})"
        )
