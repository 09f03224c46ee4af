"""Attributes that are changed together and changed back, bit for bit."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


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

    @property
    def replaces_weights(self) -> bool:
        return isinstance(self.before, nn.Parameter)

    def undo(self) -> None:
        if self.before is Absent:
            delattr(self.owner, self.name)
        elif self.replaces_weights:
            setattr(self.owner, self.name, _beside(self.before, own(self.owner, self.name)))
        else:
            setattr(self.owner, self.name, self.before)


class Hook:
    """A hook to come before a module's forward, which gets its keywords too."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]):
        self.module, self.call = module, call
        self.handle: RemovableHandle | None = None

    def apply(self) -> None:
        self.handle = self.module.register_forward_pre_hook(self.call, with_kwargs=True)

    def undo(self) -> None:
        assert self.handle is not None
        self.handle.remove()


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


def apply(changes: Sequence[Change | Hook]) -> None:
    """All of them, or none where one fails."""
    done: list[Change | Hook] = []
    try:
        for change in changes:
            change.apply()
            done.append(change)
    finally:
        if len(done) < len(changes):
            undo(done)


def undo(changes: Sequence[Change | Hook]) -> None:
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


class Place(NamedTuple):
    """Where a parameter is, of which type, and whether it learns."""

    device: torch.device
    dtype: torch.dtype
    learns: bool


def place_of(parameter: nn.Parameter) -> Place:
    return Place(parameter.device, parameter.dtype, parameter.requires_grad)


def parameter_at(tensor: Tensor, place: Place) -> nn.Parameter:
    with torch.no_grad():
        return nn.Parameter(tensor.to(place.device, place.dtype).contiguous(), place.learns)
