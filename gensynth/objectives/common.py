"""What objectives share: the loss and its parts, dropped conditions, several passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from gensynth.conditions import Conditions, dropped
from gensynth.seeding import StepRandom


@dataclass
class Loss:
    """The mean to differentiate, and named parts for the log (scalars, detached)."""

    total: Tensor  # a scalar with its graph
    parts: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What an objective can do.

    Attributes:
        trained: what it trains beside the model, such as a discriminator.
        state: what a run must keep beside the weights.
    """

    trained: nn.Module | None = None
    state: nn.Module | None = None

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """The loss of one micro-batch: latents, tokens or pixels, and conditions [B, ...]."""
        ...


def drop(
    conditions: Conditions, none: Conditions | None, share: float, random: StepRandom
) -> dict[str, Tensor]:
    """The conditions [B, ...] with "nothing" in a random share of the rows."""
    # Drawn whatever the share is, so that what is drawn after it stays the same.
    return dropped(conditions, none, random.uniform() < share)


def sum_of_passes(passes: Sequence[Mapping[str, Any]], losses: Sequence[Loss]) -> Loss:
    """The losses of several calls of the model at one time, added up.

    The parts of the first keep their names; those of a later call with keywords get the first
    keyword before theirs, as in "mask_mse".
    """
    total = losses[0]
    for number, (keywords, loss) in enumerate(zip(passes, losses, strict=True)):
        if number == 0:
            continue
        prefix = next(iter(keywords), f"pass{number}")  # a pass need not have keywords
        parts = {f"{prefix}_{name}": part for name, part in loss.parts.items()}
        assert not total.parts.keys() & parts.keys(), "two passes with the same first keyword"
        total = Loss(total.total + loss.total, total.parts | parts)
    return total
