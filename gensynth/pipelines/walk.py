"""From noise to data: the sample after every step of a scheduler."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from gensynth.samplers.flow_schedulers import FlowScheduler
from gensynth.samplers.guidance import Predict
from gensynth.samplers.registry import SIGMA_SCALED
from gensynth.samplers.token_decoders import Draws, TokenDecoder, TokenStep

if TYPE_CHECKING:
    from gensynth.pipelines.class_conditional import ClassConditionalPipeline


@dataclass
class Progress:
    """Where a batch stands. `preview()` decodes the current estimate, uint8 [B, C, H, W]."""

    step: int
    steps: int
    preview: Callable[[], Tensor]


def start(
    pipeline: "ClassConditionalPipeline",
    sampler: SchedulerMixin,
    size: tuple[int, int],
    generators: list[torch.Generator],
) -> Tensor:
    """Where a walk to pictures of `size` begins: noise, or an image of masked tokens."""
    shape, device = pipeline.autoencoder.latent_shape(*size), pipeline.model.device
    if isinstance(sampler, TokenDecoder):
        return torch.full((len(generators), *shape), pipeline.model.mask_token, device=device)
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)


def walk(
    pipeline: "ClassConditionalPipeline",
    sampler: SchedulerMixin,
    predict: Predict,
    sample: Tensor,
    steps: int,
    classes: Tensor,
    generators: list[torch.Generator],
) -> Iterator[tuple[Tensor, Progress]]:
    """The sample [B, C, H, W] after every step; noise comes from each picture's own generator."""
    if isinstance(sampler, FlowScheduler):
        yield from integrate(pipeline, sampler, predict, sample, steps, classes, generators)
        return
    if isinstance(sampler, TokenDecoder):
        yield from decode_tokens(pipeline, sampler, predict, sample, steps, classes, generators)
        return
    set_timesteps(pipeline, sampler, steps)
    sample = sample * getattr(sampler, "init_noise_sigma", 1.0)
    for index, timestep in enumerate(sampler.timesteps):
        there = sample.to(pipeline.model.dtype)
        output = expected(pipeline, predict, sampler, there, timestep, classes).float()
        preview = previewer(pipeline, sampler, output, timestep, sample)
        sample = step(sampler, output, timestep, sample, generators)
        yield sample, Progress(index + 1, len(sampler.timesteps), preview)


def integrate(
    pipeline: "ClassConditionalPipeline",
    sampler: FlowScheduler,
    predict: Predict,
    sample: Tensor,
    steps: int,
    classes: Tensor,
    generators: list[torch.Generator],
) -> Iterator[tuple[Tensor, Progress]]:
    """`walk` for SiT's samplers, which call the model themselves."""
    shape, device = sample.shape[1:], sample.device

    def output(sample: Tensor, time: Tensor) -> Tensor:
        time = time * pipeline.config.time_scale
        return predict(sample.to(pipeline.model.dtype), time, classes).float()

    def draw() -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

    for state in sampler.integrate(output, sample, steps, draw):
        preview = partial(pipeline.autoencoder.decode, state.data)
        yield state.sample, Progress(state.index, state.steps, preview)


def decode_tokens(
    pipeline: "ClassConditionalPipeline",
    decoder: TokenDecoder,
    predict: Predict,
    tokens: Tensor,
    steps: int,
    classes: Tensor,
    generators: list[torch.Generator],
) -> Iterator[tuple[Tensor, Progress]]:
    """`walk` for masked tokens [B, h, w], which a decoder decides some at a time."""
    draws = Draws.of(generators, steps, tokens[0].numel(), tokens.device)
    mask_token = pipeline.model.mask_token

    def logits(tokens: Tensor, progress: float) -> Tensor:
        # On the CPU: what depends on it is decided without waiting for the device.
        output = predict(tokens, torch.full((len(tokens),), progress), classes)
        return output.flatten(2).transpose(1, 2)

    for state in decoder.decode(logits, tokens, mask_token, steps, draws):
        yield state.tokens, Progress(state.index, state.steps, partial(guess, pipeline, state))


def guess(pipeline: "ClassConditionalPipeline", state: TokenStep) -> Tensor:
    """The picture of the tokens so far, the masked ones as they would be drawn now."""
    masked = state.tokens == pipeline.model.mask_token
    return pipeline.autoencoder.decode(torch.where(masked, state.drawn, state.tokens))


def set_timesteps(
    pipeline: "ClassConditionalPipeline", sampler: SchedulerMixin, steps: int
) -> None:
    """Sets the path. Flow's Euler steps are equal in time, as SiT's (the default is not)."""
    if "sigmas" in inspect.signature(sampler.set_timesteps).parameters and (
        pipeline.config.prediction == "velocity"
    ):
        sampler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    else:
        sampler.set_timesteps(steps)


def model_time(
    pipeline: "ClassConditionalPipeline", sampler: SchedulerMixin, timestep: Tensor
) -> Tensor:
    """What the model is told at a timestep of a diffusers scheduler, on the CPU."""
    time = timestep.float().cpu()
    if pipeline.config.prediction == "velocity":
        # diffusers counts from data (0) to noise (1000), SiT from noise (0) to data (1).
        return (1 - time / sampler.config.num_train_timesteps) * pipeline.config.time_scale
    return time


def model_times(
    pipeline: "ClassConditionalPipeline", sampler: SchedulerMixin, steps: int
) -> list[float]:
    """What the model is told in a walk, call by call; nothing if the sampler finds it on the way.

    `sampler` is used up. A model of tokens is told nothing, which is 0 here.
    """
    if isinstance(sampler, TokenDecoder):
        return [0.0]
    if not isinstance(sampler, FlowScheduler):
        set_timesteps(pipeline, sampler, steps)
        return model_time(pipeline, sampler, torch.as_tensor(sampler.timesteps)).tolist()
    if sampler.config.method == "dopri5":
        return []
    times: list[Tensor] = []

    def recorded(sample: Tensor, time: Tensor) -> Tensor:
        times.append(time * pipeline.config.time_scale)
        return torch.zeros_like(sample)

    # On the model's device, whose rounding may be another than the CPU's.
    sample = torch.zeros(1, 1, 1, 1, device=pipeline.model.device)
    for _ in sampler.integrate(recorded, sample, steps, lambda: torch.zeros_like(sample)):
        pass
    return torch.cat(times).tolist()


def expected(
    pipeline: "ClassConditionalPipeline",
    predict: Predict,
    sampler: SchedulerMixin,
    sample: Tensor,
    timestep: Tensor,
    classes: Tensor,
) -> Tensor:
    """What a diffusers scheduler expects: noise - data for flow, noise for epsilon."""
    # On the CPU: what depends on it is decided without waiting for the device.
    time = model_time(pipeline, sampler, timestep).expand(len(sample))
    if pipeline.config.prediction == "velocity":
        return -predict(sample, time, classes)
    if hasattr(sampler, "scale_model_input"):
        sample = sampler.scale_model_input(sample, timestep)
    output = predict(sample, time, classes)
    learned = getattr(sampler.config, "variance_type", None) == "learned_range"
    return output if learned else output[:, : sample.shape[1]]


def step(
    sampler: SchedulerMixin,
    output: Tensor,
    timestep: Tensor,
    sample: Tensor,
    generators: list[torch.Generator],
) -> Tensor:
    """The next sample of a diffusers scheduler."""
    extra = {}
    if "generator" in inspect.signature(sampler.step).parameters:
        extra["generator"] = generators
    return sampler.step(output, timestep, sample, return_dict=False, **extra)[0]


def previewer(
    pipeline: "ClassConditionalPipeline",
    sampler: SchedulerMixin,
    output: Tensor,
    timestep: Tensor,
    sample: Tensor,
) -> Callable[[], Tensor]:
    """A function that decodes the picture the model has in mind before a step is taken."""
    sigma_scaled = type(sampler).__name__ in SIGMA_SCALED
    sigma = sampler.sigmas[sampler.step_index] if sigma_scaled else None  # moves with the step

    def decode() -> Tensor:
        noise, scale = output[:, : sample.shape[1]], 1.0
        if pipeline.config.prediction == "velocity":
            level = timestep / sampler.config.num_train_timesteps
        elif sigma is not None:
            level = sigma
        else:
            alpha = (1 - sampler.betas).cumprod(0)[timestep.long().cpu()]
            scale, level = float(alpha.sqrt()), (1 / alpha - 1).sqrt()
        return pipeline.autoencoder.decode(sample / scale - float(level) * noise)

    return decode
