"""Prompt and seed -> picture."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from gensynth.pipelines.contract import OnStep
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.settings import Settings
from gensynth.whole import listed


class TextConditionalPipeline(DrawingPipeline):
    """Pictures of what prompts say; see `DrawingPipeline` for what it is made of."""

    def __call__(
        self,
        prompts: Sequence[str] | str,
        seeds: Sequence[int] | int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        negative: str | None = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """One picture for each pair of prompt and seed.

        A picture depends on its prompt, its seed and the settings, not on the others in the batch.

        Args:
            prompts: texts, [B]. One by itself is drawn once for each seed.
            seeds: whole numbers, [B]: a list, a range, an array or a tensor.
            steps, guidance, negative: the settings most used.
            on_step: called after every step; an exception it raises ends the call.
            settings: the others of `gensynth.settings.Settings`.

        Raises:
            UsageError: prompts and seeds of unlike number, a value out of range, or an unknown
                setting.
        """
        seeds = listed(seeds, "seeds")
        prompts = [prompts] * len(seeds) if isinstance(prompts, str) else prompts
        how = Settings.of(steps=steps, guidance=guidance, negative=negative, **settings)
        return self.draw(listed(prompts, "prompts"), seeds, how, on_step)
