"""Windows of the size that the model knows, over the whole picture (MultiDiffusion, 2302.08113)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gensynth.conditions import Conditions, Item
from gensynth.errors import UsageError
from gensynth.pipelines.contract import Composed, Resolved
from gensynth.pipelines.highres.contract import Kept, from_noise
from gensynth.samplers.contract import Predict, Step


@dataclass(frozen=True)
class Tiled:
    """In every step the model sees windows that overlap, and what it says is averaged.

    The whole picture walks at once, so its noise does not depend on the windows. Averages are
    weighted: the middle of a window counts most, its border hardly.

    Attributes:
        window: side in pixels; None: what the model was trained at.
        overlap: share of a window that its neighbour sees too, at least.
    """

    window: int | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if self.window is not None and (not isinstance(self.window, int) or self.window < 1):
            raise UsageError(
                f"the strategy's window must be a number of pixels, got {self.window!r}."
            )
        if not isinstance(self.overlap, int | float) or not 0 <= self.overlap < 1:
            raise UsageError(
                f"the strategy's overlap must be a share from 0 to below 1, got {self.overlap!r}."
            )

    def check(self, pipeline: Composed, resolved: Resolved) -> None:
        if pipeline.model.works_on == "tokens":
            raise UsageError(
                "this model draws tokens, of which no average can be taken; draw in another "
                "strategy, such as direct."
            )
        multiple = pipeline.model.size_multiple * pipeline.autoencoder.patch
        if self.window is not None and self.window % multiple:
            nearest = max(1, round(self.window / multiple)) * multiple
            raise UsageError(
                f"the strategy's window of {self.window} pixels is no multiple of {multiple}; the "
                f"nearest is {nearest}."
            )

    def walk(
        self,
        pipeline: Composed,
        items: Sequence[Item],
        seeds: Sequence[int],
        resolved: Resolved,
        kept: Kept | None,
    ) -> Iterator[Step]:
        own = self.window or pipeline.config.size
        side = own // pipeline.autoencoder.patch
        step = pipeline.model.size_multiple
        apart = max(step, int(side * (1 - self.overlap)) // step * step)

        def windowed(predict: Predict) -> Predict:
            return in_windows(predict, side, apart)

        return from_noise(pipeline, items, seeds, resolved, windowed)


def starts(length: int, side: int, apart: int) -> list[int]:
    """Where windows begin along one direction: evenly, the first at 0 and the last at the end.

    Whole multiples of the greatest number that divides all three, so that windows fit a model's
    squares.
    """
    if length <= side:
        return [0]
    unit = math.gcd(length, side, apart)
    count = math.ceil((length - side) / apart)
    return [round(n * (length - side) / count / unit) * unit for n in range(count + 1)]


def weights(height: int, width: int) -> Tensor:
    """How much each place of a window counts, [height, width]: a hat in both directions."""

    def hat(length: int) -> Tensor:
        place = torch.arange(length) + 0.5
        return torch.minimum(place, length - place) / (length / 2)

    return hat(height)[:, None] * hat(width)


def in_windows(predict: Predict, side: int, apart: int) -> Predict:
    """A model call on [B, C, H, W] that asks for windows and averages, in the memory of one."""

    def ask(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        height, width = sample.shape[-2:]
        rows, columns = min(side, height), min(side, width)
        weight = weights(rows, columns).to(sample.device)
        total: Tensor | None = None
        share = torch.zeros(height, width, device=sample.device)
        for top in starts(height, side, apart):
            for left in starts(width, side, apart):
                window = (..., slice(top, top + rows), slice(left, left + columns))
                said = predict(sample[window], time, conditions)
                if total is None:
                    total = said.new_zeros(*said.shape[:2], height, width)
                total[window] += said * weight
                share[window] += weight
        assert total is not None, "a picture without windows"
        return total / share

    return ask
