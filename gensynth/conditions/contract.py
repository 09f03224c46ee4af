"""What every kind of condition can do, and the mapping of tensors that a model is called with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:  # a wrong class is refused before torch is imported
    import torch
    from torch import Tensor

    from gensynth.config import Shown

# What a model is told beside a sample and a time, by the names of its keywords: [B, ...] each.
# Samplers, guidance and schedulers pass it on without looking inside.
Conditions = Mapping[str, "Tensor"]
# What one picture is to show, as JSON can hold it: the number of a class, a prompt, or None.
Item = Any


class Condition(ABC):
    """One way to say what a picture is to show.

    Attributes:
        tensors: names of the tensors that `encode` gives, which are keywords of the models that
            take this condition.
        reads: what it needs of training data, "labels" or "texts" (captions).
    """

    tensors: tuple[str, ...]
    reads: ClassVar[str] = "labels"

    @classmethod
    def of_experiment(
        cls,
        shown: Shown,
        names: list[str],
        captions: Sequence[str] = (),
        begun: Path | None = None,
    ) -> Self:
        """The condition of a run.

        Args:
            shown: the section `condition:`.
            names: of the classes of the data.
            captions: of the pictures, or of many of them, for a condition that reads texts.
            begun: model folder of the newest checkpoint of a run that goes on.
        """
        return cls.of_data(names)

    @classmethod
    @abstractmethod
    def of_data(cls, names: list[str]) -> Self:
        """The condition of pictures whose classes are called `names`."""

    @classmethod
    @abstractmethod
    def of_model(cls, model: Any) -> Self:
        """The condition of a finished model, before its folder says more (`load`)."""

    def for_model(self, model: Any) -> Self:
        """This condition as a model that was built for it takes it."""
        return self

    @abstractmethod
    def model_keywords(self) -> dict[str, Any]:
        """Keywords of the constructor of a model that is to learn this condition."""

    @abstractmethod
    def item(self, wish: Any) -> Item:
        """One item from what a program or a person gives, checked.

        Raises:
            UsageError: there is no such thing; the message names the nearest.
        """

    @abstractmethod
    def parse(self, text: str) -> list[Item]:
        """The items of a line that a person typed.

        Raises:
            UsageError: it cannot be read, or asks for something that does not exist.
        """

    def prompted(self, prompts: Sequence[str]) -> list[Item]:
        """The items that a person describes in words, one for each text.

        Raises:
            UsageError: the model cannot be told so; the message says what it can be told.
        """
        return [self.item(prompt) for prompt in prompts]

    @abstractmethod
    def name(self, item: Item) -> str:
        """An item in words."""

    @abstractmethod
    def choices(self) -> list[tuple[str, Item]]:
        """All there is to choose from, as (words, item); empty where anything may be written."""

    def search(self, text: str) -> list[tuple[str, Item]]:
        """The choices in whose words every word of a text stands, upper or lower case."""
        wanted = text.casefold().split()
        return [
            (words, item)
            for words, item in self.choices()
            if all(word in words.casefold() for word in wanted)
        ]

    def every(self) -> list[Item]:
        """All items in turn, for whoever does not choose."""
        return [item for _, item in self.choices()]

    @abstractmethod
    def encode(self, items: Sequence[Item] | Tensor, device: torch.device) -> dict[str, Tensor]:
        """The tensors [B, ...] for a batch of items, or for the labels [B] of training data."""

    @property
    def has_none(self) -> bool:
        """Whether a model can be told "nothing in particular"; see `none`."""
        return True

    @abstractmethod
    def none(self, device: torch.device) -> dict[str, Tensor] | None:
        """The tensors [1, ...] that mean "nothing in particular"; None if a model has none."""

    def notes(self, items: Sequence[Item]) -> list[str]:
        """Sentences about what of these items the model will not see."""
        return []

    def cautions(self) -> list[str]:
        """For whoever trains on such items: how many of some the model will not see whole."""
        looked_at = self.every()
        notes = self.notes(looked_at)
        if not notes:
            return []
        return [f"{len(notes)} of {len(looked_at)} captions looked at are too long: {notes[0]}"]

    @abstractmethod
    def recipe(self, item: Item) -> dict[str, Any]:
        """What the recipe of a picture says of an item."""

    @abstractmethod
    def from_recipe(self, recipe: Mapping[str, Any]) -> Item:
        """The item that a recipe means.

        Raises:
            UsageError: it names none, or one that does not exist.
        """

    def rows(self) -> dict[str | None, int]:
        """The rows of a model's table by the names of what they mean; None: "nothing".

        Rows of one name mean the same in two models. Empty if there is no table.
        """
        return {}

    def row_of(self, name: str | None) -> int | None:
        """The row of a table that means what another model calls `name`; None if there is none."""
        return self.rows().get(name)

    def number(self, item: Item) -> int:
        """A whole number for an item, where a file has room for no more; 0 if it has none."""
        return 0

    def job(self, items: Sequence[Item]) -> dict[str, Any]:
        """What the description of a sampling job says of its items."""
        return {"items": list(items)}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What two models must have in common to speak of the same pictures."""

    def save(self, folder: Path) -> None:  # noqa: B027 - a condition may have nothing to write
        """Writes into a model's folder what its configuration does not hold."""

    def load(self, folder: Path) -> Self:
        """This condition with what `save` wrote.

        Raises:
            CorruptError: it is missing or damaged.
        """
        return self


def joined(conditions: Conditions, none: Conditions) -> dict[str, Tensor]:
    """The conditions [B, ...], then "nothing" as often: [2B, ...] each."""
    import torch

    return {
        name: torch.cat([tensor, none[name].to(tensor).expand_as(tensor)])
        for name, tensor in conditions.items()
    }


def dropped(conditions: Conditions, none: Conditions | None, where: Tensor) -> dict[str, Tensor]:
    """The conditions [B, ...] with "nothing" in the rows `where` [B] is true.

    Without a "nothing" they stay as they are.
    """
    import torch

    if none is None:
        return dict(conditions)
    mixed = {}
    for name, tensor in conditions.items():
        rows = where.to(tensor.device).view(-1, *[1] * (tensor.ndim - 1))  # [B, 1, ...]
        mixed[name] = torch.where(rows, none[name].to(tensor), tensor)
    return mixed
