"""What a model is trained to predict: `loss(model, latents, labels, random, passes) -> Loss`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.config import Objective as Section
from gensynth.objectives import ddpm, flow
from gensynth.objectives.common import Loss, drop_labels, sum_of_passes
from gensynth.objectives.masked import MaskedObjective
from gensynth.objectives.reconstruction import ReconstructionObjective
from gensynth.seeding import StepRandom

__all__ = [
    "Loss",
    "Objective",
    "create_objective",
    "ddpm",
    "drop_labels",
    "flow",
    "sum_of_passes",
]


class Objective(Protocol):
    """What an objective can do. Some also have modules of their own, `trained` and `state`."""

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        labels: Tensor,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """The loss of one micro-batch: latents, tokens or pixels, and labels [B]."""
        ...


OBJECTIVES: dict[str, Callable[[Any, ModelMixin, nn.Module | None], Objective]] = {
    "flow": lambda config, model, _: flow.FlowObjective(config, model.config.num_classes),
    "ddpm": lambda config, model, _: ddpm.DDPMObjective(config, model.config.num_classes),
    "masked": lambda config, model, _: MaskedObjective(config, model.mask_token),
    "reconstruction": ReconstructionObjective,
}


def create_objective(
    config: Section, model: ModelMixin, perceptual: nn.Module | None = None
) -> Objective:
    """The objective that an `objective:` section names, for a model without wrappers.

    `perceptual` is the distance of images that a reconstruction may ask for.
    """
    return OBJECTIVES[config.name](config, model, perceptual)
