"""What a model is trained to predict; `Objective.loss` gives the loss of a micro-batch."""

from collections.abc import Callable
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from gensynth.conditions import Conditions
from gensynth.config import Objective as Section
from gensynth.objectives import ddpm, flow
from gensynth.objectives.common import Loss, Objective, drop, sum_of_passes
from gensynth.objectives.masked import MaskedObjective
from gensynth.objectives.reconstruction import ReconstructionObjective

__all__ = [
    "Loss",
    "Objective",
    "create_objective",
    "ddpm",
    "drop",
    "flow",
    "sum_of_passes",
]


# `objective.name` -> what builds it; each leaves out what it has no use for.
OBJECTIVES: dict[str, Callable[[Any, Any, Conditions | None, nn.Module | None], Objective]] = {
    "flow": lambda config, model, none, _: flow.FlowObjective(config, none),
    "ddpm": lambda config, model, none, _: ddpm.DDPMObjective(config, none),
    "masked": lambda config, model, none, _: MaskedObjective(config, model.mask_token, none),
    "reconstruction": lambda config, model, _, distance: ReconstructionObjective(
        config, model, distance
    ),
}


def create_objective(
    config: Section,
    model: ModelMixin,
    none: Conditions | None,
    perceptual: nn.Module | None = None,
) -> Objective:
    """The objective that an `objective:` section names, for a model without wrappers.

    Args:
        none: what takes the place of dropped conditions, [1, ...]; None: none can be dropped.
        perceptual: the distance of images that a reconstruction may ask for.
    """
    return OBJECTIVES[config.name](config, model, none, perceptual)
