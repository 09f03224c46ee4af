"""Rectified flow: the linear path from noise to data and its velocity (SiT, arXiv 2401.08740).

Time t runs from 0 (noise) to 1 (data) as in willisma/SiT, transport/path.py (ICPlan):
x_t = t x_1 + (1 - t) x_0 and v = x_1 - x_0.
"""

import torch
from torch import Tensor, nn

from gensynth.config import Flow
from gensynth.objectives import Loss, drop_labels
from gensynth.seeding import StepRandom


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """x_t and velocity [B, C, H, W] at `time` [B] between `noise` (0) and `data` (1)."""
    t = time[:, None, None, None]
    return t * data + (1 - t) * noise, data - noise


def velocity_loss(prediction: Tensor, velocity: Tensor) -> Tensor:
    """Mean squared error of each image, [B]."""
    return (prediction - velocity).square().flatten(1).mean(dim=1)


class FlowObjective:
    """Velocity matching at random times."""

    learns_variance = False

    def __init__(self, config: Flow, null_label: int):
        self.config, self.null_label = config, null_label

    def draw_time(self, random: StepRandom) -> Tensor:
        """Times [B] in [0, 1]: uniform, or the sigmoid of a normal (arXiv 2403.03206, eq. 19)."""
        if self.config.time == "uniform":
            return random.uniform()
        return torch.sigmoid(self.config.logit_mean + self.config.logit_std * random.normal())

    def loss(self, model: nn.Module, latents: Tensor, labels: Tensor, random: StepRandom) -> Loss:
        """Loss of one micro-batch: latents [B, C, H, W], labels [B]."""
        time = self.draw_time(random)
        noise = random.normal(*latents.shape[1:])
        labels = drop_labels(labels, self.null_label, self.config.label_dropout, random)
        sample, velocity = interpolate(latents, noise, time)
        prediction = model(sample, time * self.config.time_scale, labels)
        return Loss(velocity_loss(prediction.float(), velocity).mean())
