"""No condition: a model that draws whatever it has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from gensynth.conditions.contract import Condition, Item
from gensynth.errors import UsageError

if TYPE_CHECKING:  # a wrong class is refused before torch is imported
    import torch
    from torch import Tensor


class Nothing(Condition):
    """Every picture is to show the same: something like the data. The only item is None."""

    tensors = ()

    @classmethod
    def of_data(cls, names: list[str]) -> Self:
        return cls()

    @classmethod
    def of_model(cls, model: Any) -> Self:
        return cls()

    def model_keywords(self) -> dict[str, Any]:
        """No classes: the one row of a model's class table is that of "nothing"."""
        return {"num_classes": 0, "null_label": True}

    def rows(self) -> dict[str | None, int]:
        return {None: 0}

    def item(self, wish: Any) -> None:
        if wish is not None:
            raise UsageError(
                f"this model draws without a class or prompt, got {wish!r}; leave it out."
            )

    def parse(self, text: str) -> list[Item]:
        if text.strip():
            self.item(text)
        return [None]

    def name(self, item: Item) -> str:
        return "anything"

    def choices(self) -> list[tuple[str, Item]]:
        return []

    def every(self) -> list[Item]:
        return [None]

    def encode(self, items: Sequence[Item] | Tensor, device: torch.device) -> dict[str, Tensor]:
        return {}

    @property
    def has_none(self) -> bool:
        return False

    def none(self, device: torch.device) -> dict[str, Tensor] | None:
        return None

    def recipe(self, item: Item) -> dict[str, Any]:
        return {}

    def from_recipe(self, recipe: Mapping[str, Any]) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {}
