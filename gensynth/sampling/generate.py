"""Any number of pictures in batches; what a picture shows does not depend on its batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from gensynth.conditions import Item
from gensynth.errors import DeviceMemoryError, UsageError
from gensynth.pipelines.contract import Pipeline
from gensynth.pipelines.pretrained.options import LoadOptions
from gensynth.system.memory import LESS, is_full

SMALLER_SIZE = f"Try a smaller --size, {LESS}"
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Picture:
    """What to draw: number `index` of the job, showing `item`, from `seed`."""

    index: int
    item: Item
    seed: int


def plan(items: Sequence[Item], num: int, seed: int) -> list[Picture]:
    """Pictures 0..num-1: the items in turn, and the seeds seed, seed + 1, ..."""
    return [Picture(k, items[k % len(items)], seed + k) for k in range(num)]


def smaller(pipeline: Pipeline) -> str:
    """What to do where one picture of a pipeline alone does not fit."""
    options = getattr(pipeline, "options", None)
    if not isinstance(options, LoadOptions):
        return SMALLER_SIZE
    ways = [*options.lighter(pipeline.device.type), *options.lighter_decoding()]
    return f"Try {', '.join(['a smaller --size', *ways, LESS])}"


@contextmanager
def reporting_memory(together: int, alone: str) -> Iterator[None]:
    """Turns a failed allocation for that many pictures into an error that says what helps.

    Args:
        alone: what to do where it is one picture that does not fit.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # CUDA's is a RuntimeError, and so is the CPU's
        if not is_full(error):
            raise
        if together == 1:
            on_gpu = isinstance(error, torch.OutOfMemoryError)
            how = " (CUDA_VISIBLE_DEVICES= before the command: the CPU)" if on_gpu else ""
            message = f"out of memory with one picture alone. {alone}{how}."
            raise DeviceMemoryError(message) from error
        raise DeviceMemoryError(
            f"out of memory with {together} pictures at once. Try --batch-size {together // 2}."
        ) from error


def generate(
    draw: Callable[[list[Item], list[int]], Iterable[Drawn]],
    pictures: Sequence[Picture],
    batch_size: int = 16,
    alone: str = SMALLER_SIZE,
) -> Iterator[tuple[Picture, Drawn]]:
    """Draws pictures in batches, in order.

    Args:
        draw: items and seeds of a batch -> what is drawn of each.
        alone: what to do where one picture alone does not fit.

    Raises:
        DeviceMemoryError: a batch does not fit; the message suggests another size.
    """
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, got {batch_size}.")
    for first in range(0, len(pictures), batch_size):
        batch = pictures[first : first + batch_size]
        with reporting_memory(len(batch), alone):
            drawn = draw([p.item for p in batch], [p.seed for p in batch])
        yield from zip(batch, drawn, strict=True)
