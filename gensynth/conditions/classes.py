"""Classes: a picture shows one of a fixed number of named things."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gensynth.conditions.class_names import ClassNames
from gensynth.conditions.contract import Condition, Item
from gensynth.errors import CorruptError, UsageError
from gensynth.whole import whole_number

if TYPE_CHECKING:  # a wrong class is refused before torch is imported
    import torch
    from torch import Tensor

LABELS_FILE = "labels.json"
SYNSETS_FILE = "synsets.json"  # of ImageNet's classes


class Classes(Condition):
    """One class by its number, 0 to `len(names) - 1`, or by its name.

    Args:
        names: of all classes, in the order of their numbers.
        null: the number that means "no class", which follows the last class of the model; None if
            the model was trained without.
        synsets: WordNet ids of the classes, such as "n01440764"; empty if they are not known.
    """

    tensors = ("class_labels",)

    def __init__(self, names: Sequence[str], null: int | None, synsets: Sequence[str] = ()):
        self.names, self.null, self.synsets = list(names), null, list(synsets)

    @classmethod
    def of_data(cls, names: list[str]) -> Self:
        return cls(names, len(names))  # "no class" has the number after the last

    @classmethod
    def of_model(cls, model: Any) -> Self:
        """Classes with their numbers for names."""
        count = model.config.num_classes
        null = count if model.config.get("null_label", True) else None
        return cls([str(number) for number in range(count)], null)

    def for_model(self, model: Any) -> Self:
        """These classes with the null label of a model, which may be trained without one."""
        return type(self)(self.names, type(self).of_model(model).null, self.synsets)

    def model_keywords(self) -> dict[str, Any]:
        return {"num_classes": len(self.names)}

    def item(self, wish: Any) -> int:
        """The number of a class given by number or in words (`class_names`).

        Whole numbers of numpy and torch are numbers too. A text of digits means the class of that
        name, if there is one.

        Raises:
            UsageError: no such class, or a text that means two; the message says what to write.
        """
        if isinstance(wish, str):
            return self.known_names().find(wish)
        number, count = whole_number(wish), len(self.names)
        if number is None:
            raise UsageError(f"a class is a whole number or a name, got {wish!r}.")
        if not 0 <= number < count:
            raise UsageError(f"class {number} does not exist; this model knows 0-{count - 1}.")
        return number

    def parse(self, text: str) -> list[Item]:
        """Class numbers of "0-9", "3,5", "Sneaker,Bag" or a mixture.

        Raises:
            UsageError: a name or number that the model does not know, or that means two classes.
        """
        return self.known_names().parse(text)

    def prompted(self, prompts: Sequence[str]) -> list[Item]:
        """The classes that are called as the prompts say, case and blanks aside.

        Raises:
            UsageError: no class is called so, or several are; the message names the nearest.
        """
        known = self.known_names()
        return [known.prompted(prompt) for prompt in prompts]

    def known_names(self) -> ClassNames:
        return ClassNames(self.names, self.synsets)  # made anew, since names may be changed

    def name(self, item: Item) -> str:
        return self.names[item]

    def rows(self) -> dict[str | None, int]:
        numbered = reversed(list(enumerate(self.names)))  # the first of a name is the one it means
        rows: dict[str | None, int] = {name: number for number, name in numbered}
        return rows if self.null is None else {**rows, None: self.null}

    def number(self, item: Item) -> int:
        return item

    def choices(self) -> list[tuple[str, Item]]:
        """All classes with number, name and WordNet id, so that each can be searched for."""
        ids = [f" · {synset}" for synset in self.synsets] or [""] * len(self.names)
        return [
            ((name if name == str(number) else f"{number} · {name}") + ids[number], number)
            for number, name in enumerate(self.names)
        ]

    def encode(self, items: Sequence[Item] | Tensor, device: torch.device) -> dict[str, Tensor]:
        """`class_labels`: int64 [B]."""
        import torch

        if isinstance(items, torch.Tensor):  # labels of training data
            return {"class_labels": items.to(device, non_blocking=True)}
        return {"class_labels": torch.tensor(items, device=device)}

    @property
    def has_none(self) -> bool:
        return self.null is not None

    def none(self, device: torch.device) -> dict[str, Tensor] | None:
        import torch

        if self.null is None:
            return None
        return {"class_labels": torch.tensor([self.null], device=device)}  # int64 [1]

    def recipe(self, item: Item) -> dict[str, Any]:
        return {"label": item, "class": None if item is None else self.names[item]}

    def from_recipe(self, recipe: Mapping[str, Any]) -> int:
        """The class by its number."""
        label, prompt = recipe.get("label"), recipe.get("prompt")
        if label is None and isinstance(prompt, str):  # of a model of prompts
            return self.known_names().prompted(prompt)
        if isinstance(label, bool) or not isinstance(label, int | str):  # True is an int
            raise UsageError(f"a class is a number or a name, got {label!r}.")
        return self.item(label)

    def job(self, items: Sequence[Item]) -> dict[str, Any]:
        return {"labels": list(items)}

    def describe(self) -> dict[str, Any]:
        named = {f"class {number}": name for number, name in enumerate(self.names)}
        return {"number of classes": len(self.names), **named}

    def save(self, folder: Path) -> None:
        for file, texts in ((LABELS_FILE, self.names), (SYNSETS_FILE, self.synsets)):
            if texts or file == LABELS_FILE:
                content = json.dumps(texts, ensure_ascii=False, indent=1)
                (folder / file).write_text(content + "\n", encoding="utf-8")
            else:  # of another model that was saved there
                (folder / file).unlink(missing_ok=True)

    def load(self, folder: Path) -> Self:
        count = len(self.names)
        if not (folder / LABELS_FILE).is_file():
            raise CorruptError(f"{folder}: {LABELS_FILE} is missing.")
        names = _texts(folder / LABELS_FILE, count, "class names")
        synsets: list[str] = []
        if (folder / SYNSETS_FILE).is_file():
            synsets = _texts(folder / SYNSETS_FILE, count, "WordNet ids")
        return type(self)(names, self.null, synsets)


def _texts(file: Path, count: int, what: str) -> list[str]:
    """The texts in a JSON file that is to hold `count` of them."""
    try:
        texts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptError(f"{file} is not readable: {error}.") from error
    are_texts = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    if not are_texts or len(texts) != count:
        raise CorruptError(f"{file} should be a list of {count} {what}.")
    return texts
