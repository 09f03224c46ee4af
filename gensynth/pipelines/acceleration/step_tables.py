"""Modulations of all steps of a walk, computed together before its first step.

What a block's `modulation` gives depends on the time and the label alone. With one picture at a
time it is a product of one row with a large matrix, of which a step reads every weight to use it
once (adaLN holds 41 % of DiCo-XL's weights). For all the steps together it is read once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from gensynth.conditions import Conditions


class Given(nn.Module):
    """Stands where a modulation was, and gives what was computed before."""

    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor | None = None

    def forward(self, condition: Tensor) -> Tensor | None:
        return self.value


def modulating(model: Any) -> dict[str, nn.Module]:
    """The layers of a model that modulate, by their paths, whose ends are "modulation"."""
    return {path: layer for path, layer in model.named_modules() if path.endswith("modulation")}


def refusal(model: Any) -> str | None:
    """Why the modulations of a model cannot come from a table; None if they can."""
    if model.config.get("size_conditioning"):
        return "the model is also told a size and a crop"
    if model.config.get("shared_modulation"):
        return "the blocks of the model share one modulation, which is computed once a step anyway"
    if not modulating(model):
        return "no layer of the model is called modulation"
    for path, layer in modulating(model).items():
        if type(layer) is not nn.Linear:  # but one that is quantized or has an adapter, say
            return f"{path} is a {type(layer).__name__}, not a Linear"
    return None


class Modulations:
    """All modulating layers of a model whose `refusal` is None.

    Each is fed the condition that is as wide as its input; those of one model differ in width.
    """

    def __init__(self, model: Any):
        self.model = model
        self.layers: list[nn.Linear] = []
        self.places: list[tuple[nn.Module, str, Given]] = []
        for path, layer in modulating(model).items():
            parent, _, name = path.rpartition(".")
            self.layers.append(cast(nn.Linear, layer))
            self.places.append((model.get_submodule(parent), name, Given()))
        self.widths = [layer.out_features for layer in self.layers]

    def rows(self, conditions: Sequence[Tensor]) -> Tensor:
        """What all layers give, side by side: [R, sum of widths] for conditions [R, C] each."""
        by_width = {condition.shape[1]: condition for condition in conditions}
        first = conditions[0]
        table = first.new_empty(len(first), sum(self.widths))
        for columns, layer in zip(table.split(self.widths, dim=1), self.layers, strict=True):
            columns.copy_(layer(by_width[layer.in_features]))  # views of the table
        return table

    @contextmanager
    def given(self, rows: Tensor) -> Iterator[None]:
        """A block in which the layers give `rows` [B, sum of widths], whatever they are asked."""
        for (parent, name, stand_in), value in zip(
            self.places, rows.split(self.widths, dim=1), strict=True
        ):
            stand_in.value = value
            parent._modules[name] = stand_in  # as setattr, without its checks at every step
        try:
            yield
        finally:
            for (parent, name, stand_in), layer in zip(self.places, self.layers, strict=True):
                stand_in.value = None
                parent._modules[name] = layer


class StepTable:
    """The modulations of a model at some times, under some conditions.

    Args:
        modulations: of the model.
        times: what the model is told in the walk, a number for each call; equal ones count once.
        conditions: all that are asked for, [R, ...] each; equal rows count once. Empty for a model
            that knows none.
    """

    def __init__(self, modulations: Modulations, times: Sequence[float], conditions: Conditions):
        device = modulations.model.device
        conditions = steering(modulations.model, conditions)
        self.told = bool(conditions)  # false also where blocks only look at words
        self.steps = {time: step for step, time in enumerate(dict.fromkeys(times))}
        # Which of a step's rows the conditions of a row have.
        distinct, self.column = distinct_rows(conditions, device)
        self.num_columns = num_distinct(distinct, device)
        every_time = torch.tensor(list(self.steps), device=device)
        spread = {
            name: tensor.repeat(len(self.steps), *[1] * (tensor.ndim - 1))
            for name, tensor in distinct.items()
        }
        self.rows = modulations.rows(
            modulations.model.embed(every_time.repeat_interleave(self.num_columns), **spread)
        )

    def find(self, timestep: Tensor, row: Tensor | None) -> Tensor | None:
        """Rows [B, sum of widths] at `timestep` [B]; None for a time that is not known.

        `row` [B] are numbers of rows of the conditions; None where there are no conditions. If
        `timestep` is on the CPU, nothing waits for the device.
        """
        times = set(timestep.tolist())
        step = self.steps.get(times.pop()) if len(times) == 1 else None
        if step is None:
            return None
        if row is None or not self.told:
            return self.rows[step].expand(len(timestep), -1)  # [B, sum of widths]
        return self.rows.index_select(0, step * self.num_columns + self.column[row])


def steering(model: Any, conditions: Conditions) -> dict[str, Tensor]:
    """Those of the conditions that a model embeds; others, such as words, are looked at."""
    return {name: tensor for name, tensor in conditions.items() if name in model.steers}


def distinct_rows(conditions: Conditions, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """The conditions [R, ...] without repetition, and the place [R] of each row among them."""
    if not conditions:
        return {}, torch.zeros(1, dtype=torch.long, device=device)
    # Side by side as float64, which holds every whole number that a condition uses.
    flat = torch.cat([t.reshape(len(t), -1).double() for t in conditions.values()], dim=1)
    unique, place = flat.unique(dim=0, return_inverse=True)
    first = torch.zeros(len(unique), dtype=torch.long, device=flat.device)
    # Written backwards: of equal rows the first comes last and stays.
    first.scatter_(0, place.flip(0), torch.arange(len(flat), device=flat.device).flip(0))
    return {name: tensor[first] for name, tensor in conditions.items()}, place


def num_distinct(conditions: Conditions, device: torch.device) -> int:
    """How many rows of the conditions differ; 1 where there are none."""
    distinct, _ = distinct_rows(conditions, device)
    return len(next(iter(distinct.values()), (0,)))
