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
# The settings of a scheduler that the training of a network knew too.
BETAS = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    "rescale_betas_zero_snr",
)
# As published: with the shift that a model has once and for all (Stable Diffusion 3), without that
# which drawing makes of the size of a picture (FLUX.1-dev).
SIGMAS = ("num_train_timesteps", "shift", "use_dynamic_shifting")


def noise_objective(config: Distill, scheduler: Any, none: Conditions | None) -> Objective:
    """The objective of a network that is drawn with a scheduler of diffusers.

    Raises:
        UsageError: a scheduler that is neither of a diffusion by betas nor FLUX's, or times that
            are of flows.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return FlowNoise(config, scheduler.config, none)
    if "beta_schedule" not in scheduler.config:
        raise UsageError(
            f"the teacher is drawn with a {type(scheduler).__name__}, and what its network was "
            "trained with is not known here; take a teacher with betas or a flow."
        )
    check_uniform(config)
    return DiffusionNoise(config, scheduler.config, none)


def check_uniform(config: Distill) -> None:
    """Raises UsageError for other times than those of a diffusion."""
    if config.time != "uniform":
        raise UsageError(
            f"objective.time {config.time} is of flows, and the teacher is a diffusion; leave it "
            "out."
        )


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
        known = {k: v for k, v in scheduler.items() if k in SIGMAS}
        table = FlowMatchEulerDiscreteScheduler.from_config(known)
        self.sigmas, self.timesteps = table.sigmas.float(), table.timesteps.float()
        assert len(self.sigmas) == len(self.timesteps)  # [1000] both, falling

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
        # a copy at the first step only, so that no further one waits for the device
        self.sigmas, self.timesteps = (x.to(share.device) for x in (self.sigmas, self.timesteps))
        numbers = (share * len(self.timesteps)).long().clamp(max=len(self.timesteps) - 1)
        sigma = self.sigmas[numbers][:, None, None, None]  # [B, 1, 1, 1]
        noise = random.normal(*latents.shape[1:])
        told = drop(conditions, self.none, self.config.label_dropout, random)
        sample = (1 - sigma) * latents + sigma * noise
        output = model(sample, self.timesteps[numbers], **told).float()
        return Loss((output - (noise - latents)).square().mean())
