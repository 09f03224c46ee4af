"""What a model is trained to predict: `loss(model, latents, labels, random, passes) -> Loss`."""

from gensynth.config import DDPM, Flow
from gensynth.objectives import ddpm, flow
from gensynth.objectives.common import Loss, drop_labels, sum_of_passes

__all__ = ["Loss", "create_objective", "ddpm", "drop_labels", "flow", "sum_of_passes"]


def create_objective(
    config: Flow | DDPM, null_label: int
) -> "flow.FlowObjective | ddpm.DDPMObjective":
    """The objective that an `objective:` section names."""
    if config.name == "flow":
        return flow.FlowObjective(config, null_label)
    return ddpm.DDPMObjective(config, null_label)
