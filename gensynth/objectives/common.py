"""What objectives share: the loss and its parts, dropped labels, several passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gensynth.seeding import StepRandom


@dataclass
class Loss:
    """The mean to differentiate, and named parts for the log (scalars, detached)."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


def drop_labels(labels: Tensor, null_label: int, share: float, random: StepRandom) -> Tensor:
    """`labels` [B] with a random share of them replaced by the null label."""
    dropped = random.uniform().to(labels.device) < share
    return torch.where(dropped, null_label, labels)


def sum_of_passes(passes: Sequence[Mapping[str, Any]], losses: Sequence[Loss]) -> Loss:
    """The losses of several calls of the model at one time, added up.

    The parts of the first keep their names; those of a later call with keywords get the first
    keyword before theirs, as in "mask_mse".
    """
    total = losses[0]
    for number, (keywords, loss) in enumerate(zip(passes, losses, strict=True)):
        if number == 0:
            continue
        prefix = next(iter(keywords), f"pass{number}")
        parts = {f"{prefix}_{name}": part for name, part in loss.parts.items()}
        assert not total.parts.keys() & parts.keys(), "two passes with the same first keyword"
        total = Loss(total.total + loss.total, total.parts | parts)
    return total
