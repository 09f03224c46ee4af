"""What a model is trained to predict: `loss(model, latents, labels, random) -> Loss`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gensynth.config import DDPM, Flow
from gensynth.seeding import StepRandom

if TYPE_CHECKING:
    from gensynth.objectives.ddpm import DDPMObjective
    from gensynth.objectives.flow import FlowObjective


@dataclass
class Loss:
    """The mean to differentiate, and named parts for the log (scalars, detached)."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


def drop_labels(labels: Tensor, null_label: int, share: float, random: StepRandom) -> Tensor:
    """`labels` [B] with a random share of them replaced by the null label."""
    dropped = random.uniform().to(labels.device) < share
    return torch.where(dropped, null_label, labels)


def create_objective(config: "Flow | DDPM", null_label: int) -> "FlowObjective | DDPMObjective":
    """The objective that an `objective:` section names."""
    from gensynth.objectives.ddpm import DDPMObjective
    from gensynth.objectives.flow import FlowObjective

    if config.name == "flow":
        return FlowObjective(config, null_label)
    return DDPMObjective(config, null_label)
