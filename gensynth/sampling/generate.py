"""Any number of pictures in batches; what a picture shows does not depend on its batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from gensynth.conditions import Item
from gensynth.errors import DeviceMemoryError, UsageError

CPU_FULL = "can't allocate memory"  # words of torch's allocator on the CPU
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


def generate(
    draw: Callable[[list[Item], list[int]], Iterable[Drawn]],
    pictures: Sequence[Picture],
    batch_size: int = 16,
) -> Iterator[tuple[Picture, Drawn]]:
    """Draws pictures in batches, in order.

    Args:
        draw: items and seeds of a batch -> what is drawn of each.

    Raises:
        DeviceMemoryError: a batch does not fit; the message suggests another size.
    """
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, got {batch_size}.")
    for first in range(0, len(pictures), batch_size):
        batch = pictures[first : first + batch_size]
        try:
            drawn = draw([p.item for p in batch], [p.seed for p in batch])
        except (torch.OutOfMemoryError, RuntimeError) as error:
            # On a CPU torch says so in a plain RuntimeError.
            if not isinstance(error, torch.OutOfMemoryError) and CPU_FULL not in str(error):
                raise
            raise DeviceMemoryError(
                f"out of memory with {len(batch)} pictures at once. "
                f"Try --batch-size {max(1, batch_size // 2)}."
            ) from error
        yield from zip(batch, drawn, strict=True)
