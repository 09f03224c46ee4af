"""What sampling, evaluation, training and serving expect of whatever draws pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from gensynth.conditions import Condition, Item
from gensynth.lora.apply import Adapters
from gensynth.samplers.contract import Sampler, Step
from gensynth.settings import Settings


@dataclass
class Progress:
    """Where a batch stands. `preview()` decodes the current estimate, uint8 [B, C, H, W]."""

    step: int
    steps: int
    preview: Callable[[], Tensor]

    @classmethod
    def of(cls, step: Step, decode: Callable[[Tensor], Tensor]) -> "Progress":
        """The progress after a step; its estimate is decoded only when `preview` is called."""
        return cls(step.index, step.steps, lambda: decode(step.estimate()))


OnStep = Callable[[Progress], None]  # an exception it raises ends the drawing
SHOWCASE_BATCH = 50  # pictures drawn together in a showcase


@dataclass(frozen=True)
class Resolved:
    """Settings with the model's own choices filled in, and a sampler for one walk.

    Attributes:
        settings: steps, guidance, size and scheduler are there; the others if they are used.
    """

    settings: Settings
    sampler: Sampler

    @property
    def steps(self) -> int:
        assert self.settings.steps is not None
        return self.settings.steps

    @property
    def guidance(self) -> float:
        assert self.settings.guidance is not None
        return self.settings.guidance

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        assert isinstance(self.settings.size, tuple)
        return self.settings.size


class Pipeline(Protocol):
    """Draws pictures of items of its condition. The class-conditional pipeline is one of several.

    Attributes:
        name: what it was loaded as.
        condition: what its pictures can show.
        channels: of a picture, 1 or 3.
        lora: the adapters that it was loaded with.
    """

    name: str
    condition: Condition
    lora: Adapters | None

    @property
    def channels(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def resolve(self, settings: Settings | None = None) -> Resolved:
        """The settings with the pipeline's own in place of those left to it.

        Raises:
            UsageError: a value out of range; the message says what is allowed.
        """
        ...

    def steps_range(self, size: tuple[int, int]) -> tuple[int, int]:
        """The fewest and the most steps that its scheduler takes for pictures of `size`."""
        ...

    def draw(
        self,
        items: Sequence[Item],
        seeds: Sequence[int],
        settings: Settings | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image.Image]:
        """One picture for each pair of item and seed, whatever else is in the batch."""
        ...

    def optimize(self) -> list[str]:
        """Sentences that say what now makes drawing faster, and what does not and why."""
        ...


def shown_in_turn(pipeline: Any, num: int, on_step: OnStep) -> list[Image.Image]:
    """`num` pictures, all items in turn, seeds 0, 1, ..."""
    pictures: list[Image.Image] = []
    every = pipeline.condition.every()
    for begin in range(0, num, SHOWCASE_BATCH):
        seeds = range(begin, min(begin + SHOWCASE_BATCH, num))
        items = [every[seed % len(every)] for seed in seeds]
        pictures += pipeline.draw(items, seeds, on_step=on_step)
    return pictures


class EditingPipeline(Pipeline, Protocol):
    """A pipeline that can also draw a part of a picture anew."""

    def edit(self, image: Image.Image, *args: Any, **keywords: Any) -> list[Image.Image]: ...


class Composed(Protocol):
    """What the files of this folder use of a pipeline that is made of parts.

    Attributes:
        model: a `models.backbone.Backbone`.
        scheduler: diffusers' or ours, whose settings a walk starts from.
        autoencoder: pixels <-> latents or tokens.
        config: the settings of the saved folder.
        optimized: see `acceleration.optimize`.
    """

    model: Any
    scheduler: Any
    autoencoder: Any
    config: Any
    optimized: Any
    condition: Condition

    def resolve(self, settings: Settings | None = None) -> Resolved: ...
