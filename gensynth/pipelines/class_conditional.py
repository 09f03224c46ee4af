"""Class label and seed -> picture."""

from collections.abc import Sequence
from typing import Any, cast

from PIL import Image

from gensynth.conditions import Classes
from gensynth.errors import UsageError
from gensynth.pipelines.contract import OnStep
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.settings import Settings
from gensynth.whole import listed


class ClassConditionalPipeline(DrawingPipeline):
    """Pictures of classes; see `DrawingPipeline` for what it is made of."""

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of their numbers."""
        return cast(Classes, self.condition).names

    @classes.setter
    def classes(self, names: Sequence[str]) -> None:
        before, names = cast(Classes, self.condition), listed(names, "class names")
        if len(names) != len(before.names) or not all(isinstance(name, str) for name in names):
            raise UsageError(f"this model knows {len(before.names)} classes; give a name for each.")
        self.condition = Classes(names, before.null, before.synsets)

    def label_id(self, label: int | str) -> int:
        """The number of a class given by number or in words; see `conditions.class_names`.

        Raises:
            UsageError: no such class, or a text that means two; the message says what to write.
        """
        return self.condition.item(label)

    def __call__(
        self,
        labels: Sequence[int | str] | int | str,
        seeds: Sequence[int] | int,
        steps: int | None = None,
        guidance: float | None = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """One picture for each pair of label and seed.

        A picture depends on its label, its seed and the settings, not on the others in the batch.

        Args:
            labels: class numbers or names, [B]: a list, a range, an array or a tensor. One by
                itself is a picture.
            seeds: whole numbers, [B], likewise.
            steps, guidance: the settings most used.
            on_step: called after every step; an exception it raises ends the call.
            settings: the others of `gensynth.settings.Settings`, such as size, scheduler,
                scheduler_options, guidance_interval and guide.

        Raises:
            UsageError: labels and seeds of unlike number, a value out of range, an unknown
                setting, or a guide that does not fit.
        """
        how = Settings.of(steps=steps, guidance=guidance, **settings)
        return self.draw(listed(labels, "labels"), seeds, how, on_step)
