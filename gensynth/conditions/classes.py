"""Classes: a picture shows one of a fixed number of named things."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from gensynth.conditions.contract import Condition, Item
from gensynth.errors import CorruptError, UsageError

LABELS_FILE = "labels.json"


class Classes(Condition):
    """One class by its number, 0 to `len(names) - 1`, or by its name.

    Args:
        names: of all classes, in the order of their numbers.
        null: the number that means "no class", which follows the last class of the model; None if
            the model was trained without.
    """

    tensors = ("class_labels",)

    def __init__(self, names: Sequence[str], null: int | None):
        self.names, self.null = list(names), null

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
        """These classes with the null label of a model, which may have room for more classes."""
        return type(self)(self.names, type(self).of_model(model).null)

    def model_keywords(self) -> dict[str, Any]:
        return {"num_classes": len(self.names)}

    def item(self, wish: Any) -> int:
        """The number of a class given by number or name (upper and lower case are the same).

        Raises:
            UsageError: no such class; the message names the nearest.
        """
        count = len(self.names)
        if isinstance(wish, str) and not re.fullmatch(r"\s*[0-9]+\s*", wish):
            names = [name.lower() for name in self.names]
            if wish.strip().lower() in names:
                return names.index(wish.strip().lower())  # the first of that name
            close = difflib.get_close_matches(wish.lower(), names, n=1, cutoff=0.4)
            hint = f" Did you mean {self.names[names.index(close[0])]!r}?" if close else ""
            known = ", ".join(self.names[:12]) + (", ..." if count > 12 else "")
            raise UsageError(f"there is no class {wish!r}.{hint} Classes: {known}.")
        whole = isinstance(wish, Integral | str) and not isinstance(wish, bool)
        if not whole:
            raise UsageError(f"a class is a whole number or a name, got {wish!r}.")
        number = int(wish)
        if not 0 <= number < count:
            raise UsageError(f"class {number} does not exist; this model knows 0-{count - 1}.")
        return number

    def parse(self, text: str) -> list[Item]:
        """Class numbers of "0-9", "3,5", "Sneaker,Bag" or a mixture.

        Raises:
            UsageError: a name or number that the model does not know.
        """
        numbers: list[int] = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            span = re.fullmatch(r"(\d+)-(\d+)", part)
            if span:
                first, last = int(span[1]), int(span[2])
                if first > last:
                    raise UsageError(f"labels {part!r} run backwards; write {last}-{first}.")
                self.item(last)  # raises if unknown; `first` is not larger
                numbers += range(first, last + 1)
            else:
                numbers.append(self.item(part))
        if not numbers:
            raise UsageError("no labels given; write numbers, ranges or names: 0-9 or 3,5 or Bag.")
        return numbers

    def name(self, item: Item) -> str:
        return self.names[item]

    def rows(self) -> dict[str | None, int]:
        numbered = reversed(list(enumerate(self.names)))  # the first of a name is the one it means
        rows: dict[str | None, int] = {name: number for number, name in numbered}
        return rows if self.null is None else {**rows, None: self.null}

    def number(self, item: Item) -> int:
        return item

    def choices(self) -> list[tuple[str, Item]]:
        return [
            (name if name == str(number) else f"{number} · {name}", number)
            for number, name in enumerate(self.names)
        ]

    def encode(self, items: Sequence[Item] | Tensor, device: torch.device) -> dict[str, Tensor]:
        """`class_labels`: int64 [B]."""
        if isinstance(items, Tensor):  # labels of training data
            return {"class_labels": items.to(device, non_blocking=True)}
        return {"class_labels": torch.tensor(items, device=device)}

    def none(self, device: torch.device) -> dict[str, Tensor] | None:
        if self.null is None:
            return None
        return {"class_labels": torch.tensor([self.null], device=device)}  # int64 [1]

    def recipe(self, item: Item) -> dict[str, Any]:
        return {"label": item, "class": None if item is None else self.names[item]}

    def from_recipe(self, recipe: Mapping[str, Any]) -> int:
        """The class by its number."""
        label = recipe.get("label")
        if isinstance(label, bool) or not isinstance(label, int | str):  # True is an int
            raise UsageError(f"a class is a number or a name, got {label!r}.")
        return self.item(label)

    def job(self, items: Sequence[Item]) -> dict[str, Any]:
        return {"labels": list(items)}

    def describe(self) -> dict[str, Any]:
        named = {f"class {number}": name for number, name in enumerate(self.names)}
        return {"number of classes": len(self.names), **named}

    def save(self, folder: Path) -> None:
        names = json.dumps(self.names, ensure_ascii=False, indent=1)
        (folder / LABELS_FILE).write_text(names + "\n", encoding="utf-8")

    def load(self, folder: Path) -> Self:
        file, count = folder / LABELS_FILE, len(self.names)
        try:
            names = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CorruptError(f"{folder}: {LABELS_FILE} is missing.") from error
        except (OSError, ValueError) as error:
            raise CorruptError(f"{file} is not readable: {error}.") from error
        texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not texts or len(names) != count:
            raise CorruptError(f"{file} should be a list of {count} class names.")
        return type(self)(names, self.null)
