"""Flow matching: velocity, noise, score or data at a random time of a path (SiT, 2401.08740).

The losses are those of willisma/SiT, transport/transport.py. Time t runs from 0 (noise) to 1
(data). Predicting the data ("x") is not in SiT; its weights make it the same loss as for noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.conditions import Conditions
from gensynth.config import Flow
from gensynth.objectives.common import Loss, Objective, drop, sum_of_passes
from gensynth.samplers.paths import PATHS, per_sample
from gensynth.seeding import StepRandom


class FlowObjective(Objective):
    """The mean squared error of a prediction at random times."""

    def __init__(self, config: Flow, none: Conditions | None):
        self.config, self.none = config, none
        self.path = PATHS[config.path]
        eps = config.train_eps
        if eps is None:
            eps = self.path.default_eps(config.prediction)[0]  # [0]: in training
        self.interval = self.path.interval(eps)

    def draw_time(self, random: StepRandom) -> Tensor:
        """Times [B]: uniform, or the sigmoid of a normal (arXiv 2403.03206, eq. 19).

        They lie in [0, 1] without the ends where the path or a weight is infinite.
        """
        if self.config.time == "uniform":
            share = random.uniform()  # [B]
        else:
            share = torch.sigmoid(self.config.logit_mean + self.config.logit_std * random.normal())
        first, last = self.interval
        return share * (last - first) + first

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: latents [B, C, H, W], conditions [B, ...].

        The time is drawn once; noise and what is dropped anew for each of `passes`, the keywords
        of one call of the model.
        """
        time = self.draw_time(random)
        losses = []
        for keywords in passes:
            noise = random.normal(*latents.shape[1:])
            told = drop(conditions, self.none, self.config.label_dropout, random)
            sample, _ = self.path.interpolate(latents, noise, time)  # [B, C, H, W]
            output = model(sample, time * self.config.time_scale, **told, **keywords).float()
            losses.append(Loss(self.terms(output, latents, noise, time).mean()))
        return sum_of_passes(passes, losses)

    def terms(self, output: Tensor, data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Loss [B] of a model output [B, C, H, W] at `time` [B] between `noise` and `data`."""
        if self.config.prediction == "velocity":
            error = output - self.path.interpolate(data, noise, time)[1]
        elif self.config.prediction == "noise":
            error = output - noise
        elif self.config.prediction == "score":  # -noise / sigma; times sigma, finite at time 1
            error = output * self.path.sigma(per_sample(time, output)) + noise
        else:
            error = output - data
        loss = error.square().flatten(1).mean(dim=1)  # [B]
        return loss if self.config.weighting == "none" else loss * self.weight(time)

    def weight(self, time: Tensor) -> Tensor:
        """Weight [B] of the squared error (SiT, sec. 2.2).

        "velocity" makes it the squared error of the velocity that follows; "likelihood" bounds the
        likelihood with D = sbdm.
        """
        diffusion, sigma = self.path.diffusion(time), self.path.sigma(time)
        if self.config.weighting == "velocity":
            weight = (diffusion / sigma).square()
        else:
            weight = diffusion / sigma.square()
        if self.config.prediction == "x":  # an error of the data is one of the noise, times this
            weight = weight * (self.path.alpha(time) / sigma).square()
        return weight
