"""A condition from outside of the package: whether the number of a class is even or odd."""

import torch

from gensynth.conditions import CONDITIONS, Condition
from gensynth.errors import UsageError

NAMES = ["even", "odd"]


class Parity(Condition):
    tensors = ("class_labels",)

    @classmethod
    def of_data(cls, names):
        return cls()

    @classmethod
    def of_model(cls, model):
        return cls()

    def model_keywords(self):
        return {"num_classes": 2}

    def item(self, wish):
        if wish not in NAMES:
            raise UsageError(f"say even or odd, not {wish!r}.")
        return wish

    def parse(self, text):
        return [self.item(word) for word in text.split(",")]

    def name(self, item):
        return item

    def choices(self):
        return [(name, name) for name in NAMES]

    def encode(self, items, device):
        if isinstance(items, torch.Tensor):
            return {"class_labels": (items % 2).to(device)}
        return {"class_labels": torch.tensor([NAMES.index(item) for item in items], device=device)}

    def none(self, device):
        return {"class_labels": torch.tensor([2], device=device)}

    def recipe(self, item):
        return {"parity": item}

    def from_recipe(self, recipe):
        return self.item(recipe.get("parity"))

    def describe(self):
        return {"condition": "parity"}


CONDITIONS["parity"] = Parity
