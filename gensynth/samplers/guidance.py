"""Guidance: each function wraps a model call `predict(sample, timestep, labels)` into another.

A scale is a number or a function of the model's timesteps, [B] -> [B]; such functions are made of
the noise level, 0 at data and 1 at pure noise. Where the scale is 1 for the whole batch, only the
model itself is called.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gensynth.errors import UsageError

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
NoiseLevel = Callable[[Tensor], Tensor]
Scale = float | Callable[[Tensor], Tensor]

SCHEDULES = ("constant", "linear", "power-cosine")
# Levels come from float32 timesteps; a bound of an interval belongs to it.
_ROUNDING = 1e-6


def power_cosine(scale: float, power: float, noise_level: NoiseLevel) -> Scale:
    """MDT's scale: 1 at pure noise, `scale` at data, later the larger `power` (arXiv 2303.14389).

    1 + (scale - 1) (1 - cos(pi (1 - level)^power)) / 2
    """

    def at(timestep: Tensor) -> Tensor:
        progress = (1 - noise_level(timestep)).clamp(min=0) ** power
        return 1 + (scale - 1) * (1 - torch.cos(math.pi * progress)) / 2

    return at


def linear(scale: float, noise_level: NoiseLevel) -> Scale:
    """1 at pure noise, `scale` at data, on a line (Halton-MaskGIT, confidence_sampler.py)."""
    return lambda timestep: 1 + (scale - 1) * (1 - noise_level(timestep))


def limited_interval(scale: Scale, low: float, high: float, noise_level: NoiseLevel) -> Scale:
    """`scale` where low <= noise level <= high, and 1 elsewhere (arXiv 2404.07724)."""

    def at(timestep: Tensor) -> Tensor:
        level = noise_level(timestep)
        inside = (level >= low - _ROUNDING) & (level <= high + _ROUNDING)
        return torch.where(inside, scale(timestep) if callable(scale) else scale, 1.0)

    return at


def scheduled(
    scale: float,
    noise_level: NoiseLevel,
    schedule: str = "constant",
    power: float = 4.0,
    interval: tuple[float, float] | None = None,
) -> Scale:
    """The scale that the `guidance_*` settings of a pipeline name.

    Raises:
        UsageError: an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise UsageError(
            f"guidance_schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}."
        )
    chosen: Scale = scale
    if schedule == "power-cosine" and scale > 1:
        chosen = power_cosine(scale, power, noise_level)
    elif schedule == "linear" and scale > 1:
        chosen = linear(scale, noise_level)
    if interval is None or scale == 1:
        return chosen
    return limited_interval(chosen, *interval, noise_level)


def check_interval(interval: Sequence[float] | Mapping[str, float]) -> tuple[float, float]:
    """(low, high) of an interval of noise levels, a pair or {"low": ..., "high": ...}.

    Raises:
        UsageError: it is none.
    """
    if isinstance(interval, Mapping):
        interval = [interval[key] for key in ("low", "high") if key in interval]
    if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
        raise UsageError(
            "guidance_interval must be two noise levels, 0 <= low < high <= 1, "
            f"got {tuple(interval)}."
        )
    return interval[0], interval[1]


def classifier_free(
    predict: Predict, scale: Scale, null_label: int, channels: int | None = None
) -> Predict:
    """Classifier-free guidance (arXiv 2207.12598): null + scale * (conditional - null).

    Args:
        predict: [B, C, H, W], [B], [B] -> [B, C or 2C, H, W]. Channels above C are variances.
        scale: 1 means no guidance and costs no second pass.
        null_label: the label that means "no class".
        channels: how many leading channels are guided; the others keep the conditional value.
            None guides all C. The published DiT, DiC and DiCo numbers guide 3 of 4.

    Raises:
        ValueError: scale below 1.
    """

    def both(sample: Tensor, timestep: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        null = torch.full_like(labels, null_label)
        output = predict(
            torch.cat([sample, sample]), torch.cat([timestep, timestep]), torch.cat([labels, null])
        )
        conditional, unconditional = output.chunk(2)
        return conditional, unconditional

    return _guided(predict, both, scale, channels)


def autoguidance(
    predict: Predict, guide: Predict, scale: Scale, channels: int | None = None
) -> Predict:
    """Guidance away from a worse model (arXiv 2406.02507): guide + scale * (model - guide).

    Both see the same labels. `channels` is as in `classifier_free`; the guide may have no variance
    channels, as only the model's are kept.

    Raises:
        ValueError: scale below 1.
    """

    def both(sample: Tensor, timestep: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return predict(sample, timestep, labels), guide(sample, timestep, labels)

    return _guided(predict, both, scale, channels)


def _guided(
    predict: Predict,
    both: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    scale: Scale,
    channels: int | None,
) -> Predict:
    """`weak + scale * (strong - weak)` in the leading channels, for `both` -> (strong, weak).

    Both must be new tensors: without gradients the weak one is written over.
    """
    if not callable(scale) and not scale >= 1:  # also refuses NaN
        raise ValueError(f"guidance must be at least 1, got {scale}")
    if scale == 1:
        return predict

    def guided(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        weight: float | Tensor
        if callable(scale):
            weight = scale(timestep)
            if bool((weight == 1).all()):
                return predict(sample, timestep, labels)
        else:
            weight = scale
        strong, weak = both(sample, timestep, labels)
        if isinstance(weight, Tensor):
            # Without waiting for the device, if it comes from the CPU.
            weight = weight.to(strong, non_blocking=True)[:, None, None, None]
        # Token numbers have no channels: all that is said of them is guided.
        count = channels or (sample.shape[1] if sample.ndim == strong.ndim else strong.shape[1])
        weak, guided_part = weak[:, :count], strong[:, :count]
        # In place where no gradient is asked for: with a large codebook fresh memory costs more
        # than the mixing.
        mix = weak.lerp if torch.is_grad_enabled() else weak.lerp_
        mixed = mix(guided_part, weight)
        return torch.cat([mixed, strong[:, count:]], dim=1) if count < strong.shape[1] else mixed

    return guided
