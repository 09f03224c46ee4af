"""Seed -> picture, with a model that knows no condition."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from gensynth.pipelines.contract import OnStep
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.settings import Settings
from gensynth.whole import listed


class UnconditionalPipeline(DrawingPipeline):
    """Pictures like those of the data; see `DrawingPipeline` for what it is made of."""

    def __call__(
        self, seeds: Sequence[int] | int, on_step: OnStep | None = None, **settings: Any
    ) -> list[Image.Image]:
        """One picture for each seed, drawn as `gensynth.settings.Settings` say."""
        seeds = listed(seeds, "seeds")
        return self.draw([None] * len(seeds), seeds, Settings.of(**settings), on_step)
