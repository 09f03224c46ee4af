"""Modulations of all steps of a walk, computed together before its first step.

What a block's `modulation` gives depends on the time and the label alone. With one picture at a
time it is a product of one row with a large matrix, of which a step reads every weight to use it
once (adaLN holds 41 % of DiCo-XL's weights). For all the steps together it is read once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class Given(nn.Module):
    """Stands where a modulation was, and gives what was computed before."""

    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor | None = None

    def forward(self, condition: Tensor) -> Tensor | None:
        return self.value


def modulating(model: ModelMixin) -> dict[str, nn.Module]:
    """The layers of a model that modulate, by their paths, whose ends are "modulation"."""
    return {path: layer for path, layer in model.named_modules() if path.endswith("modulation")}


def refusal(model: ModelMixin) -> str | None:
    """Why the modulations of a model cannot come from a table; none if they can."""
    if getattr(model, "size_embedder", None) is not None:
        return "the model is also told a size and a crop"
    for path, layer in modulating(model).items():
        if type(layer) is not nn.Linear:  # but one that is quantized or has an adapter, say
            return f"{path} is a {type(layer).__name__}, not a Linear"
    return None


class Modulations:
    """All layers of a model that modulate; there is no `refusal` of it.

    Each is fed the condition that is as wide as its input; those of one model differ in width.
    """

    def __init__(self, model: ModelMixin):
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
            columns.copy_(layer(by_width[layer.in_features]))
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
    """The modulations of a model at some times, for some labels.

    Args:
        modulations: of the model.
        times: what the model is told in the walk, a number for each call; equal ones count once.
        labels: all that are asked for; equal ones count once.
    """

    def __init__(self, modulations: Modulations, times: Sequence[float], labels: Sequence[int]):
        device = modulations.model.device
        self.steps = {time: step for step, time in enumerate(dict.fromkeys(times))}
        known = torch.tensor(sorted(set(labels)), device=device)
        self.num_labels = len(known)
        # Which of a step's rows a label has. That of an unknown one lies behind the table.
        self.column = known.new_full((max(labels) + 1,), len(self.steps) * len(known))
        self.column[known] = torch.arange(len(known), device=device)
        every_time = torch.tensor(list(self.steps), device=device)
        conditions = conditions_of(
            modulations.model,
            every_time.repeat_interleave(len(known)),
            known.repeat(len(self.steps)),
        )
        self.rows = modulations.rows(conditions)

    def find(self, timestep: Tensor, labels: Tensor) -> Tensor | None:
        """Rows [B, sum of widths] at `timestep` [B] for `labels` [B]; none for a time not known.

        If `timestep` is on the CPU, nothing waits for the device.

        Raises:
            IndexError: an unknown label (on a GPU: torch's error of an index out of range).
        """
        times = set(timestep.tolist())
        step = self.steps.get(times.pop()) if len(times) == 1 else None
        if step is None:
            return None
        return self.rows.index_select(0, step * self.num_labels + self.column[labels])


def conditions_of(model: ModelMixin, timestep: Tensor, labels: Tensor) -> list[Tensor]:
    """What steers a model at `timestep` [B] for `labels` [B]; of tokens, the labels alone."""
    if model.works_on == "tokens":
        return model.conditions(labels, torch.zeros_like(labels, dtype=torch.bool))
    return model.conditions(timestep, labels)
