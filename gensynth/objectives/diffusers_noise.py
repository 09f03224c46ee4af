"""What the networks of diffusers' pipelines were trained with, by the settings of their scheduler.

A diffusion (Stable Diffusion, SDXL, PixArt) predicts noise or v at one of 1000 timesteps; a flow
(Stable Diffusion 3, FLUX) predicts noise - data at x = (1 - sigma) data + sigma noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from gensynth.conditions import Conditions
from gensynth.config import Distill
from gensynth.errors import UsageError
from gensynth.objectives.common import Loss, Objective, drop
from gensynth.seeding import StepRandom

PREDICTIONS = ("epsilon", "v_prediction")


def noise_objective(
    config: Distill, scheduler: Mapping[str, Any], none: Conditions | None
) -> Objective:
    """The objective of a network that is drawn with a scheduler of these settings."""
    flow = "num_train_timesteps" in scheduler and "beta_schedule" not in scheduler
    return FlowNoise(config, scheduler, none) if flow else DiffusionNoise(config, scheduler, none)


class DiffusionNoise(Objective):
    """The mean squared error of noise, or of v (arXiv 2202.00512).

    Raises:
        UsageError: a network that predicts something else.
    """

    def __init__(self, config: Distill, scheduler: Mapping[str, Any], none: Conditions | None):
        self.config, self.none = config, none
        known = {k: v for k, v in scheduler.items() if k in BETAS}
        self.process = DDPMScheduler.from_config(known)
        self.prediction = scheduler.get("prediction_type", "epsilon")
        if self.prediction not in PREDICTIONS:
            raise UsageError(
                f"the teacher predicts {self.prediction}; known are {', '.join(PREDICTIONS)}."
            )

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: latents [B, C, H, W], conditions [B, ...]."""
        timesteps = random.integers(self.process.config.num_train_timesteps)  # [B]
        noise = random.normal(*latents.shape[1:])
        told = drop(conditions, self.none, self.config.label_dropout, random)
        sample = self.process.add_noise(latents, noise, timesteps)
        output = model(sample, timesteps, **told).float()
        target = noise
        if self.prediction == "v_prediction":
            target = self.process.get_velocity(latents, noise, timesteps)
        return Loss((output - target).square().mean())


class FlowNoise(Objective):
    """The mean squared error of noise - data, at the noise levels of the scheduler's own table."""

    def __init__(self, config: Distill, scheduler: Mapping[str, Any], none: Conditions | None):
        self.config, self.none = config, none
        # as published, without the shift that depends on the size of a picture
        known = {k: v for k, v in scheduler.items() if k in SIGMAS}
        table = FlowMatchEulerDiscreteScheduler.from_config(known)
        self.sigmas, self.timesteps = table.sigmas[:-1], table.timesteps  # [1000], falling

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: latents [B, C, H, W], conditions [B, ...]."""
        if self.config.time == "uniform":
            share = random.uniform()  # [B]
        else:
            share = torch.sigmoid(self.config.logit_mean + self.config.logit_std * random.normal())
        numbers = (share * len(self.timesteps)).long().clamp(max=len(self.timesteps) - 1).cpu()
        sigma = self.sigmas[numbers].to(latents)[:, None, None, None]  # [B, 1, 1, 1]
        noise = random.normal(*latents.shape[1:])
        told = drop(conditions, self.none, self.config.label_dropout, random)
        sample = (1 - sigma) * latents + sigma * noise
        output = model(sample, self.timesteps[numbers].to(latents), **told).float()
        return Loss((output - (noise - latents)).square().mean())


# The settings of a scheduler that the training of a network knew too.
BETAS = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    "rescale_betas_zero_snr",
)
SIGMAS = ("num_train_timesteps", "shift")
