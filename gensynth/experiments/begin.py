"""A run that begins with the weights of a finished model instead of random ones."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from gensynth.conditions import Condition
from gensynth.errors import UsageError
from gensynth.pipelines.loading import load, resolve

MOST_NAMED = 8  # tensors or classes in a line


def check_beginning(where: str | None) -> str | None:
    """`where`, if there is a model, which is not loaded yet; None for random weights.

    Raises:
        InputError, RefusedError: as `resolve`.
    """
    if where is not None:
        resolve(where)
    return where


@torch.no_grad()
def begin_from(where: str | None, model: ModelMixin, condition: Condition) -> list[str]:
    """Gives `model` what fits of the model that `load(where)` finds: tensors by name and shape.

    Tables with a row for each class take the rows of the classes that are called alike, and of "no
    class". All else stays as it was drawn; for None, everything.

    Returns a line for each kind of what was taken over and what was not.

    Raises:
        UsageError: nothing fits.
        InputError, RefusedError, CorruptError: as `load`.
    """
    if where is None:
        return []
    other = load(where, device="cpu")
    there: dict[str, Tensor] = other.model.state_dict()
    own: dict[str, Tensor] = model.state_dict()
    tables = {name for name in own if name.startswith(_tables_of(model))}
    fitting = [
        name
        for name, tensor in own.items()
        if name in there and there[name].shape == tensor.shape and name not in tables
    ]
    if not any(own[name].ndim > 1 for name in fitting):  # vectors fit by chance
        raise UsageError(
            f"init_from: nothing of {where} fits the model of this run: "
            f"{_differences(other.model, model)}. Make them alike, or leave init_from out."
        )
    for name in fitting:
        own[name].copy_(there[name])
    pairs = _same_rows(condition, other.condition)
    filled = [name for name in sorted(tables) if _fill(own[name], there.get(name), pairs)]
    kept = sum(own[name].numel() for name in fitting) / sum(t.numel() for t in own.values())
    return [
        f"init_from {where}: {len(fitting)} of {len(own)} tensors taken over, {kept:.0%} of the "
        "numbers",
        *_about_classes(condition, pairs if filled else {}, bool(tables)),
        *_about_rest(own, there, {*fitting, *filled}, tables),
    ]


def _tables_of(model: Any) -> tuple[str, ...]:
    return () if not model.draws else tuple(model.tables)


def _same_rows(condition: Condition, other: Condition) -> dict[str | None, tuple[int, int]]:
    """The rows of both tables that mean the same, by what they mean."""
    here, there = condition.rows(), other.rows()
    return {name: (row, there[name]) for name, row in here.items() if name in there}


def _fill(table: Tensor, other: Tensor | None, pairs: Mapping[Any, tuple[int, int]]) -> bool:
    """Copies the rows of `pairs` into a table, if the other one has rows as long."""
    if other is None or other.shape[1:] != table.shape[1:]:
        return False
    for row, there in pairs.values():
        table[row].copy_(other[there])
    return bool(pairs)


def _about_classes(condition: Condition, pairs: Mapping[Any, Any], tables: bool) -> list[str]:
    if not tables:
        return []
    rows = sorted((row, name) for name, row in condition.rows().items() if name is not None)
    names = [name for _, name in rows]
    kept, new = ([n for n in names if (n in pairs) is taken] for taken in (True, False))
    nothing = ', with the row for "no class"' if None in pairs else ""
    lines = [f"class table: {len(kept)} of {len(names)} classes kept by name{nothing}{_list(kept)}"]
    return lines + ([f"class table: {len(new)} classes drawn anew{_list(new)}"] if new else [])


def _about_rest(
    own: Mapping[str, Tensor], there: Mapping[str, Tensor], taken: set[str], tables: set[str]
) -> list[str]:
    rest = [name for name in own if name not in taken and name not in tables]
    reshaped = [
        f"{name} {list(own[name].shape)} instead of {list(there[name].shape)}"
        for name in rest
        if name in there
    ]
    kinds = {
        "drawn anew, of another shape": reshaped,
        "drawn anew, not in that model": [name for name in rest if name not in there],
        "left behind, not in this model": [name for name in there if name not in own],
    }
    return [f"{kind}: {len(found)} tensors{_list(found)}" for kind, found in kinds.items() if found]


def _list(names: list[str]) -> str:
    if not names:
        return ""
    return f" ({', '.join(names[:MOST_NAMED])}{', ...' if len(names) > MOST_NAMED else ''})"


def _differences(other: ModelMixin, model: ModelMixin) -> str:
    """In what two models were built differently, in words."""
    if type(other) is not type(model):
        return f"that is a {type(other).__name__}, this a {type(model).__name__}"
    keys = [key for key in model.config if not key.startswith("_")]
    differ = [
        f"model.{key} is {other.config.get(key)!r} there and {model.config[key]!r} here"
        for key in keys
        if other.config.get(key) != model.config[key]
    ]
    return ", ".join(differ) or "their tensors have other names"
