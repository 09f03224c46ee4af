"""The micro-batches of one process, and the count of images that cannot be decoded."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import torch

from gensynth.config import Data, Training
from gensynth.data.encoded import EncodedImages
from gensynth.data.sources import Source
from gensynth.data.training import Batch, Schedule, StreamedImages, TrainingImages
from gensynth.data.workers import Patience, read_ahead
from gensynth.errors import CorruptError, UsageError

FEWEST_STREAMED = 1000  # images before the share of unreadable ones in a stream means anything
# Seconds until the first batch of a stream, which fills its buffer or finds its place before.
FIRST_STREAMED = 3600.0


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
    patch: int = 1,
    watch: Callable[[], None] = lambda: None,
) -> Generator[Batch]:
    """The batches of a schedule, decoded ahead by worker processes.

    Args:
        cursor: for streams, a position and the (epoch, offset) at which the stream stands there.
        patch: side in pixels of a position of the latents.
        watch: called now and then while no batch comes; what it raises ends the waiting.
    """
    longer = ", and a larger data.timeout=SECONDS allows more time"
    patience = Patience(data.timeout, watch=watch, longer=longer)
    if source.streamed:
        dataset: Any = StreamedImages(
            source.rows, data, seed, len(source.classes), schedule, *cursor, patch
        )
        # Always one worker: datasets shuffles otherwise inside a worker than outside.
        first = max(data.timeout, FIRST_STREAMED)
        patience = replace(patience, first=first, without="without data.streaming none is needed")
        return read_ahead(dataset, 1, device, patience, batch_size=None)
    if data.source == "encoded":
        dataset = EncodedImages(source.rows, data, seed)
    else:
        dataset = TrainingImages(source.rows, data, seed, patch)
    return read_ahead(dataset, data.workers, device, patience, batch_sampler=schedule)


class Unreadable:
    """Counts rows that could not be decoded; too many of them end the run.

    Args:
        share: largest share of them among the images of the data, or seen so far in a stream.
        length: number of images; None for a stream.
        name_of: how to find a row again.
    """

    def __init__(
        self, share: float, length: int | None, name_of: Callable[[int], str] = "row {}".format
    ):
        self.share, self.length, self.name_of = share, length, name_of
        self.rows: set[int] = set()
        self.new: set[int] = set()  # of this process, not yet counted

    def add(self, rows: list[int], seen: int) -> str | None:
        """A warning if some of `rows`, from all processes, are new; `seen` images so far.

        Raises:
            CorruptError: there are too many.
        """
        self.new.clear()
        new = set(rows) - self.rows
        if not new:
            return None
        self.rows |= new
        count = max(seen, FEWEST_STREAMED) if self.length is None else self.length
        if len(self.rows) > self.share * count:
            some = ", ".join(map(self.name_of, sorted(self.rows)[:10]))
            raise CorruptError(
                f"{len(self.rows)} of {count} images cannot be decoded, more than "
                f"data.max_corrupt {self.share:g} allows: {some}. "
                "Repair the data or raise the limit."
            )
        return (
            f"warning: {len(self.rows)} unreadable images skipped so far "
            f"(newest: {self.name_of(max(new))})"
        )
