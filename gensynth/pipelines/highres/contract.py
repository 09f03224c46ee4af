"""What a strategy for large pictures is."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from gensynth.conditions import Conditions, Item
from gensynth.pipelines.contract import Composed, Resolved
from gensynth.pipelines.model_call import guided_model
from gensynth.samplers.contract import Predict, Step
from gensynth.seeding import picture_generator, whole_seed


class Kept(Protocol):
    """Latents of finished stages, so that a picture that was cut off goes on from the last."""

    def get(self, seed: int, stage: int) -> Tensor | None:
        """What was put for a picture, [C, h, w]; None if there is nothing."""
        ...

    def put(self, seed: int, stage: int, latents: Tensor) -> None: ...


class Strategy(Protocol):
    """A way to draw a picture of a size; its fields are the options of `strategy_options`."""

    def check(self, pipeline: Composed, resolved: Resolved) -> None:
        """
        Raises:
            UsageError: this model cannot be drawn with so.
        """
        ...

    def walk(
        self,
        pipeline: Composed,
        items: Sequence[Item],
        seeds: Sequence[int],
        resolved: Resolved,
        kept: Kept | None,
    ) -> Iterator[Step]:
        """Every step, the last of which has the latents of the picture in its full size."""
        ...


def from_noise(
    pipeline: Composed,
    items: Sequence[Item],
    seeds: Sequence[int],
    resolved: Resolved,
    changed: Callable[[Predict], Predict] = lambda predict: predict,
) -> Iterator[Step]:
    """Every step from noise to data in one size, with a changed model call if one is given."""
    sampler, shape = resolved.sampler, pipeline.autoencoder.latent_shape(*resolved.size)
    generators = [picture_generator(whole_seed(seed)) for seed in seeds]  # one for each picture
    conditions = pipeline.condition.encode(items, pipeline.model.device)
    predict, conditions = guided_model(pipeline, resolved, conditions)
    sample = sampler.start(shape, generators)
    return sampler.walk(changed(predict), sample, resolved.steps, conditions, generators)


def one_by_one(predict: Predict) -> Predict:
    """A model call that asks for one picture after another, in the memory of one."""

    def ask(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        told = [
            {name: part[[row]] for name, part in conditions.items()} for row in range(len(sample))
        ]
        rows = zip(sample.split(1), time.split(1), told, strict=True)
        return torch.cat([predict(*row) for row in rows])

    return ask


def ladder(
    own: float, size: tuple[int, int], multiple: int, factor: float
) -> list[tuple[int, int]]:
    """Sizes from about `own` x `own` pixels to `size`, of its shape, in the fewest equal strides.

    Each is at most `factor` times as long as the one before, up to rounding to `multiple`. Alone
    `size` if it is not larger than the first would be.
    """
    height, width = size
    growth = math.sqrt(height * width) / own
    if growth <= 1:
        return [size]
    stages = math.ceil(math.log(growth) / math.log(factor) - 1e-9)
    scales = [growth ** (stage / stages - 1) for stage in range(stages)]

    def nearest(side: float) -> int:
        return max(1, round(side / multiple)) * multiple

    return [*((nearest(height * scale), nearest(width * scale)) for scale in scales), size]
