"""Any number of pictures in batches; what a picture shows does not depend on its batch."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from gensynth.errors import DeviceMemoryError, UsageError
from gensynth.pipelines.class_conditional import ClassConditionalPipeline

CPU_FULL = "can't allocate memory"


@dataclass(frozen=True)
class Picture:
    """What to draw: number `index` of the job, of class `label`, from `seed`."""

    index: int
    label: int
    seed: int


def parse_labels(text: str, pipeline: ClassConditionalPipeline) -> list[int]:
    """Class numbers of "0-9", "3,5", "Sneaker,Bag" or a mixture.

    Raises:
        UsageError: a name or number that the model does not know.
    """
    labels: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        span = re.fullmatch(r"(\d+)-(\d+)", part)
        if span:
            first, last = int(span[1]), int(span[2])
            if first > last:
                raise UsageError(f"labels {part!r} run backwards; write {last}-{first}.")
            pipeline.label_id(last)
            labels += range(first, last + 1)
        else:
            labels.append(pipeline.label_id(part))
    if not labels:
        raise UsageError("no labels given; write numbers, ranges or names: 0-9 or 3,5 or Bag.")
    return labels


def plan(labels: Sequence[int], num: int, seed: int) -> list[Picture]:
    """Pictures 0..num-1: the labels in turn, and the seeds seed, seed + 1, ..."""
    return [Picture(k, labels[k % len(labels)], seed + k) for k in range(num)]


def generate(
    pipeline: ClassConditionalPipeline,
    pictures: Sequence[Picture],
    batch_size: int = 16,
    **settings: Any,
) -> Iterator[tuple[Picture, Image.Image]]:
    """Draws pictures in batches, in order. `settings` go to the pipeline's call.

    Raises:
        DeviceMemoryError: a batch does not fit; the message suggests another size.
    """
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, got {batch_size}.")
    for first in range(0, len(pictures), batch_size):
        batch = pictures[first : first + batch_size]
        try:
            images = pipeline([p.label for p in batch], [p.seed for p in batch], **settings)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            # On a CPU torch says so in a plain RuntimeError.
            if not isinstance(error, torch.OutOfMemoryError) and CPU_FULL not in str(error):
                raise
            raise DeviceMemoryError(
                f"out of memory with {len(batch)} pictures at once. "
                f"Try --batch-size {max(1, batch_size // 2)}."
            ) from error
        yield from zip(batch, images, strict=True)
