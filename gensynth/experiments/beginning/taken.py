"""What a model takes over of another one, tensor by tensor, and the table that says so."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.models.layers.positions import Placed

MOST_NAMED = 8  # classes or tensors in a line
COLUMNS = ("part", "taken over", "drawn anew", "why")
Rows = Mapping[str | None, tuple[int, int]]  # what a row means -> its number here and there


@dataclass
class Taken:
    """How each tensor of a model began.

    Attributes:
        whole: those that are as in the other model, but for those of tables that are resampled.
        resampled, computed: positions of another grid, interpolated or made anew.
        filled: class tables of which some rows were taken over.
        anew: drawn at random, with the reason.
        behind: what only the other model has.
    """

    whole: list[str] = field(default_factory=list)
    resampled: dict[str, str] = field(default_factory=dict)
    computed: dict[str, str] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    anew: dict[str, str] = field(default_factory=dict)
    behind: list[str] = field(default_factory=list)


@torch.no_grad()
def take_over(model: nn.Module, other: nn.Module, tables: tuple[str, ...], rows: Rows) -> Taken:
    """Gives `model` what fits of `other`: tensors by name and shape, rows of tables by meaning.

    Args:
        tables: how the names of the tensors begin that have a row for each class.
        rows: the rows of both models that mean the same.
    """
    own: dict[str, Tensor] = model.state_dict()
    there: dict[str, Tensor] = other.state_dict()
    grids = _grids(model, other)
    taken = Taken(behind=[name for name in there if name not in own])
    for name, tensor in own.items():
        if name not in there:
            taken.anew[name] = "not in that model"
        elif name in grids:
            resample, why = grids[name]
            again = resample(there[name])
            if again is None:
                taken.computed[name] = why
            elif again.shape == tensor.shape:
                tensor.copy_(again)
                taken.resampled[name] = why
            else:
                taken.anew[name] = _shapes(name, tensor, there[name])
        elif name.startswith(tables):
            _fill(name, tensor, there[name], rows, taken)
        elif tensor.shape == there[name].shape:
            tensor.copy_(there[name])
            taken.whole.append(name)
        else:
            taken.anew[name] = _shapes(name, tensor, there[name])
    return taken


def _grids(
    model: nn.Module, other: nn.Module
) -> dict[str, tuple[Callable[[Tensor], Tensor | None], str]]:
    """The tables of places whose grid is another one there: how to resample, and why."""
    found: dict[str, tuple[Callable[[Tensor], Tensor | None], str]] = {}
    modules = dict(other.named_modules())
    for path, module in model.named_modules():
        before = modules.get(path)
        if not isinstance(module, Placed) or not isinstance(before, Placed):
            continue
        (rows, columns), (own_rows, own_columns) = before.grid_size, module.grid_size
        if (rows, columns) == (own_rows, own_columns):
            continue
        why = f"{rows}x{columns} places there, {own_rows}x{own_columns} here"
        for name in module.placed:
            resample = _resampler(module, before.grid_size)
            found[f"{path}.{name}" if path else name] = resample, why
    return found


def _resampler(module: Placed, before: tuple[int, int]) -> Callable[[Tensor], Tensor | None]:
    return lambda table: module.resampled(table, before)


def _fill(name: str, tensor: Tensor, there: Tensor, rows: Rows, taken: Taken) -> None:
    """Copies the rows that mean the same, if they are as long."""
    if tensor.shape[1:] != there.shape[1:]:
        taken.anew[name] = _shapes(name, tensor, there)
        return
    for row, before in rows.values():
        tensor[row].copy_(there[before])
    taken.filled.append(name)


def _shapes(name: str, own: Tensor, there: Tensor) -> str:
    last = ".".join(name.split(".")[1:]) or name
    return f"of another shape: {last} {list(own.shape)} instead of {list(there.shape)}"


def table(taken: Taken, names: Sequence[str], classes: Sequence[str], rows: Rows) -> list[str]:
    """The lines of a table of what was taken over, a row for each part of the model.

    Args:
        names: of the model's tensors, in order.
        classes: names of the classes of this model, in order.
    """
    lines: list[tuple[str, str, str, str]] = []
    for part in dict.fromkeys(map(_part, names)):
        lines.append(_row(part, taken, classes, rows))
    for part in dict.fromkeys(map(_part, taken.behind)):
        count = sum(_part(name) == part for name in taken.behind)
        lines.append((part, "left behind", "-", f"{_tensors(count)} that this model has not"))
    cells = [COLUMNS, *lines]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return [
        "  "
        + "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[3]]).rstrip()
        for line in cells
    ]


def _row(part: str, taken: Taken, classes: Sequence[str], rows: Rows) -> tuple[str, str, str, str]:
    def of(names: Iterable[str]) -> list[str]:
        return [name for name in names if _part(name) == part]

    kept, anew, why = list[str](), list[str](), list[str]()
    if whole := of(taken.whole):
        kept.append(_tensors(len(whole)))
    if resampled := of(taken.resampled):
        kept.append(f"{len(resampled)} resampled")
        why += [taken.resampled[name] for name in resampled]
    if computed := of(taken.computed):
        anew.append(f"{len(computed)} computed")
        why += [taken.computed[name] for name in computed]
    if of(taken.filled):
        found = [name for name in classes if name in rows]
        new = [name for name in classes if name not in rows]
        nothing = ', with "no class"' if None in rows else ""
        kept.append(f"{len(found)} of {len(classes)} classes{nothing}")
        if new:
            anew.append(f"{len(new)} classes")
        why += [f"called alike: {_list(found)}"] if found else []
        why += [f"new: {_list(new)}"] if new else []
    if drawn := of(taken.anew):
        anew.append(_tensors(len(drawn)))
        why += [taken.anew[name] for name in drawn]
    reasons = list(dict.fromkeys(why))
    more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
    said = "; ".join(reasons[:MOST_NAMED]) + more
    return part, ", ".join(kept) or "-", ", ".join(anew) or "-", said


def _part(name: str) -> str:
    return name.partition(".")[0]


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count} tensors"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def differences(other: Any, model: Any) -> str:
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
