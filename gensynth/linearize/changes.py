"""Attributes that are changed together and changed back, bit for bit."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn


class Absent:
    """What an attribute is before there is one. A class, so that a copy of a model keeps it."""


class Change:
    """One attribute of an object to come: a class, a value, a module or a parameter.

    A parameter that is replaced waits on the CPU, so that a model takes no more memory of its GPU.
    """

    def __init__(self, owner: Any, name: str, value: Any):
        self.owner, self.name, self.value = owner, name, value
        before = own(owner, name)
        self.before: Any = _aside(before) if isinstance(before, nn.Parameter) else before

    def apply(self) -> None:
        setattr(self.owner, self.name, self.value)
        self.value = None  # from here on it is the owner's

    def undo(self) -> None:
        if self.before is Absent:
            delattr(self.owner, self.name)
        elif isinstance(self.before, nn.Parameter):
            setattr(self.owner, self.name, _beside(self.before, own(self.owner, self.name)))
        else:
            setattr(self.owner, self.name, self.before)


def own(owner: Any, name: str) -> Any:
    """What an object has of its own under a name, not from its class; `Absent` if nothing."""
    if name == "__class__":
        return type(owner)
    places = [vars(owner)]
    if isinstance(owner, nn.Module):
        places += [owner._parameters, owner._modules]
    return next((place[name] for place in places if name in place), Absent)


def configured(model: Any, **values: Any) -> Change:
    """The configuration of a model with other values, by which it is saved and loaded again."""
    return Change(model, "_internal_dict", FrozenDict({**model.config, **values}))


def apply(changes: Sequence[Change]) -> None:
    """All of them, or none where one fails."""
    done: list[Change] = []
    try:
        for change in changes:
            change.apply()
            done.append(change)
    finally:
        if len(done) < len(changes):
            undo(done)


def undo(changes: Sequence[Change]) -> None:
    for change in reversed(changes):
        change.undo()


def _aside(parameter: nn.Parameter) -> nn.Parameter:
    if parameter.device.type in ("cpu", "meta"):
        return parameter
    return nn.Parameter(parameter.detach().cpu(), parameter.requires_grad)


def _beside(parameter: nn.Parameter, current: Tensor) -> nn.Parameter:
    """The parameter where its model has gone since, in the type that the model has now."""
    if (parameter.device, parameter.dtype) == (current.device, current.dtype):
        return parameter
    moved = parameter.detach().to(current.device, current.dtype)
    return nn.Parameter(moved, parameter.requires_grad)


def like(tensor: Tensor, other: nn.Parameter) -> nn.Parameter:
    """A tensor as a parameter in the place of another: its device, type and whether it learns."""
    with torch.no_grad():
        return nn.Parameter(tensor.to(other.device, other.dtype).contiguous(), other.requires_grad)
