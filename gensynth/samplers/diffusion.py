"""The family of diffusers' schedulers: one model call, one step."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from gensynth.conditions import Conditions
from gensynth.errors import UsageError
from gensynth.samplers.contract import Meaning, Predict, Step, normal
from gensynth.samplers.respaced import respaced

# These keep the sample at data + sigma * noise; the others at a mixture of unit variance.
SIGMA_SCALED = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
)
# These take the variance that a model has learned; the others take the noise alone, whatever their
# settings have kept of another scheduler's.
WITH_VARIANCE = ("DDPMScheduler", "DDPMParallelScheduler")


class DiffusionSampler:
    """Any of diffusers' schedulers, for a flow of velocities or a diffusion of noise.

    Args:
        timesteps: those to visit, from noise to data; None for evenly spaced ones.
        timestep_respacing: instead, how many in each section of the chain, or "ddim" and a number.
        eta: how much noise DDIM adds, from 0 (none) to 1 (as much as DDPM); None: the scheduler
            is not asked.

    Raises:
        UsageError: timesteps that the chain does not have, or both ways to choose them.
    """

    midway = True

    def __init__(
        self,
        scheduler: SchedulerMixin,
        meaning: Meaning,
        timesteps: Sequence[int] | None = None,
        timestep_respacing: str | None = None,
        eta: float | None = None,
    ):
        self.scheduler, self.meaning = scheduler, meaning
        self.flow = meaning.prediction == "velocity"  # otherwise a diffusion, of noise
        self.timesteps = self.chosen(timesteps, timestep_respacing)
        self.eta = eta

    def chosen(self, timesteps: Sequence[int] | None, respacing: str | None) -> list[int] | None:
        """The timesteps that a caller wants, checked; None for evenly spaced ones."""
        if timesteps is not None and respacing is not None:
            raise UsageError("give timesteps or timestep_respacing, not both.")
        total = self.scheduler.config.num_train_timesteps
        if respacing is not None:
            return respaced(respacing, total)[::-1]
        if timesteps is not None and not total > timesteps[0]:
            raise UsageError(
                f"timesteps must be from {total - 1} (noise) to 0 (data), got {timesteps[0]}."
            )
        return None if timesteps is None else list(timesteps)

    def start(self, shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        return normal(shape, generators, self.meaning.device)

    def set_timesteps(self, steps: int) -> None:
        """Sets the path. Flow's Euler steps are equal in time, as SiT's (the default is not)."""
        if self.timesteps is not None:
            self.scheduler.set_timesteps(timesteps=self.timesteps)
            return
        known = inspect.signature(self.scheduler.set_timesteps).parameters
        if "sigmas" in known and self.flow:
            self.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))  # it appends 0
        else:
            self.scheduler.set_timesteps(steps)

    def model_time(self, timestep: Tensor) -> Tensor:
        """What the model is told at a timestep of the scheduler, on the CPU."""
        time = timestep.float().cpu()
        if self.flow:
            # diffusers counts from data (0) to noise (1000), SiT from noise (0) to data (1).
            share = 1 - time / self.scheduler.config.num_train_timesteps
            return share * self.meaning.time_scale
        return time

    def times(self, steps: int) -> list[float]:
        self.set_timesteps(steps)
        return self.model_time(torch.as_tensor(self.scheduler.timesteps)).tolist()

    def noise_level(self, time: Tensor) -> Tensor:
        if self.flow:
            return 1 - time / self.meaning.time_scale
        return time / self.scheduler.config.num_train_timesteps

    def steps_range(self, positions: int) -> tuple[int, int]:
        if self.timesteps is not None:
            return len(self.timesteps), len(self.timesteps)
        return 1, self.scheduler.config.num_train_timesteps

    def adapted(self, ask: Predict) -> Predict:
        """The model call in float32, with noise also of a model that predicts x or v."""
        kind = self.meaning.diffusion_prediction

        def predict(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
            # float32: guidance multiplies the difference of two outputs
            output = ask(sample, time, conditions).to(sample.device, torch.float32)
            if kind == "epsilon":
                return output
            return as_epsilon(kind, output, sample.float(), time, self.scheduler.betas)

        return predict

    def noised(self, data: Tensor, noise: Tensor, steps: int, done: int) -> Tensor:
        self.set_timesteps(steps)
        scheduler = self.scheduler
        if self.flow:  # on the straight line between both
            level = float(scheduler.sigmas[done * scheduler.order])
            return torch.lerp(data, noise, level)
        if type(scheduler).__name__ in SIGMA_SCALED:
            return data + float(scheduler.sigmas[done * scheduler.order]) * noise
        # Of the whole chain: a scheduler may keep that of its steps alone.
        alpha = (1 - scheduler.betas).cumprod(0)[scheduler.timesteps[done * scheduler.order].long()]
        return alpha.sqrt() * data + (1 - alpha).sqrt() * noise

    def walk(
        self,
        predict: Predict,
        sample: Tensor,
        steps: int,
        conditions: Conditions,
        generators: Sequence[torch.Generator],
        done: int = 0,
    ) -> Iterator[Step]:
        self.set_timesteps(steps)
        scheduler = self.scheduler
        begin = done * scheduler.order  # one of two orders lists most of its times twice
        if not done:
            sample = sample * getattr(scheduler, "init_noise_sigma", 1.0)  # 1 at unit variance
        elif hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        for index, timestep in enumerate(scheduler.timesteps[begin:], begin):
            there = sample.to(self.meaning.dtype)  # the walk itself stays in float32
            output = self.expected(predict, there, timestep, conditions).float()
            estimate = self.estimator(output, timestep, sample)
            sample = self.step(output, timestep, sample, generators)
            yield Step(index + 1, len(scheduler.timesteps), sample, estimate)

    def expected(
        self, predict: Predict, sample: Tensor, timestep: Tensor, conditions: Conditions
    ) -> Tensor:
        """What diffusers expects: noise - data for flow, noise for epsilon."""
        # On the CPU: what depends on it is decided without waiting for the device.
        time = self.model_time(timestep).expand(len(sample))
        if self.flow:
            return -predict(sample, time, conditions)  # ours is data - noise
        if hasattr(self.scheduler, "scale_model_input"):
            sample = self.scheduler.scale_model_input(sample, timestep)  # to unit variance
        output = predict(sample, time, conditions)
        learned = self.scheduler.config.get("variance_type") == "learned_range"
        if learned and type(self.scheduler).__name__ in WITH_VARIANCE:
            return output
        return output[:, : sample.shape[1]]  # without learned variances

    def step(
        self,
        output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """The next sample; schedulers that draw noise draw it from the generators."""
        extra: dict[str, Any] = {} if self.eta is None else {"eta": self.eta}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            extra["generator"] = list(generators)
        return self.scheduler.step(output, timestep, sample, return_dict=False, **extra)[0]

    def estimator(self, output: Tensor, timestep: Tensor, sample: Tensor) -> Callable[[], Tensor]:
        """A function that gives the data the model expects, as seen before a step is taken."""
        scheduler = self.scheduler
        sigma_scaled = type(scheduler).__name__ in SIGMA_SCALED
        # Read now: the scheduler's place moves with the step.
        sigma = scheduler.sigmas[scheduler.step_index] if sigma_scaled else None

        def estimate() -> Tensor:
            noise, scale = output[:, : sample.shape[1]], 1.0  # of a flow: noise - data
            if self.flow:
                level = timestep / scheduler.config.num_train_timesteps  # data = x - t velocity
            elif sigma is not None:
                level = sigma
            else:
                alpha = (1 - scheduler.betas).cumprod(0)[timestep.long().cpu()]
                scale, level = float(alpha.sqrt()), (1 / alpha - 1).sqrt()  # x_0 of x_t and epsilon
            return sample / scale - float(level) * noise

        return estimate


def as_epsilon(kind: str, output: Tensor, xt: Tensor, timestep: Tensor, betas: Tensor) -> Tensor:
    """An output [B, C or 2C, H, W] whose first C channels are "x" or "v", with noise instead.

    `xt` [B, C, H, W] is of unit variance; `timestep` [B] may lie between two of the chain, where
    the schedulers interpolate sigma = noise / signal.
    """
    timestep = timestep.to(xt.device)
    cumprod = (1 - betas.double()).cumprod(0)  # float64: a product of a thousand factors
    sigmas = ((1 - cumprod) / cumprod).sqrt().float().to(xt.device)  # noise / signal
    below = timestep.floor().long()
    above = (below + 1).clamp(max=len(betas) - 1)
    sigma = sigmas[below].lerp(sigmas[above], timestep.float() - below)[:, None, None, None]
    signal = (1 + sigma.square()).rsqrt()  # since signal^2 + noise^2 = 1
    predicted, variance = output[:, : xt.shape[1]], output[:, xt.shape[1] :]
    if kind == "x":
        epsilon = (xt - signal * predicted) / (signal * sigma)  # noise = signal * sigma
    else:
        epsilon = signal * predicted + signal * sigma * xt  # v = signal epsilon - noise x_0
    return torch.cat([epsilon, variance], dim=1)  # [B, C or 2C, H, W]
