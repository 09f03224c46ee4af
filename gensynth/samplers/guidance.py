"""Guidance: each function wraps a model call `predict(sample, time, conditions)` into another.

A scale is a number or a function of the model's timesteps, [B] -> [B]; such functions are made of
the noise level, 0 at data and 1 at pure noise. Where the scale is 1 for the whole batch, only the
model itself is called.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gensynth.conditions import Conditions, joined
from gensynth.errors import UsageError
from gensynth.samplers.contract import Predict

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
        progress = (1 - noise_level(timestep)).clamp(min=0) ** power  # below 0 it would be NaN
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
    if schedule == "power-cosine" and scale != 1:
        chosen = power_cosine(scale, power, noise_level)
    elif schedule == "linear" and scale != 1:
        chosen = linear(scale, noise_level)
    if interval is None or scale == 1:
        return chosen
    return limited_interval(chosen, *interval, noise_level)


def check_interval(interval: Sequence[float] | Mapping[str, float]) -> tuple[float, float]:
    """(low, high) of an interval of noise levels, a pair or {"low": ..., "high": ...}.

    Raises:
        UsageError: it is not one.
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
    predict: Predict, scale: Scale, none: Conditions | None, channels: int | None = None
) -> Predict:
    """Classifier-free guidance (arXiv 2207.12598): none + scale * (conditional - none).

    What `predict` returned is never written to.

    Args:
        predict: [B, C, H, W], [B], conditions [B, ...] -> [B, C or 2C, H, W]; channels above C are
            variances. Or int64 tokens [B, h, w] -> logits of any layout, which are guided whole.
        scale: 1 means no guidance and costs no second pass; below 1 leads towards none, which is
            what 0 draws.
        none: the conditions [1, ...] that mean "nothing", from `Condition.none`.
        channels: how many leading channels are guided; the others keep the conditional value.
            None guides all C. The published DiT, DiC and DiCo numbers guide 3 of 4.

    Raises:
        ValueError: scale is below 0, or there is nothing to lead away from.
    """
    if none is None:
        if callable(scale) or scale != 1:
            raise ValueError('the condition has no "nothing" to lead away from; guidance must be 1')
        return predict
    nothing = none  # known not to be None in the function below

    def both(sample: Tensor, time: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        # One call of twice the batch: (conditional, none).
        output = predict(
            torch.cat([sample, sample]), torch.cat([time, time]), joined(conditions, nothing)
        )
        conditional, unconditional = output.chunk(2)
        return conditional, unconditional

    return _guided(predict, both, scale, channels)


def autoguidance(
    predict: Predict, guide: Predict, scale: Scale, channels: int | None = None
) -> Predict:
    """Guidance away from a worse model (arXiv 2406.02507): guide + scale * (model - guide).

    Both see the same conditions. `channels` is as in `classifier_free`; the guide may have no
    variance channels, as only the model's are kept.

    Raises:
        ValueError: scale is below 0.
    """

    def both(sample: Tensor, time: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        return predict(sample, time, conditions), guide(sample, time, conditions)

    return _guided(predict, both, scale, channels)


def _guided(
    predict: Predict,
    both: Callable[[Tensor, Tensor, Conditions], tuple[Tensor, Tensor]],
    scale: Scale,
    channels: int | None,
) -> Predict:
    """`weak + scale * (strong - weak)` in the leading channels, for `both` -> (strong, weak)."""
    if not callable(scale) and not scale >= 0:  # also refuses NaN
        raise ValueError(f"guidance must be at least 0, got {scale}")
    if scale == 1:
        return predict

    def guided(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        weight: float | Tensor
        if callable(scale):
            weight = scale(time)
            if bool((weight == 1).all()):  # the second pass would change nothing
                return predict(sample, time, conditions)
        else:
            weight = scale
        strong, weak = both(sample, time, conditions)  # [B, K, ...] each
        if isinstance(weight, Tensor):
            # Without waiting for the device, if it comes from the CPU.
            weight = weight.to(strong, non_blocking=True).view(-1, *[1] * (strong.ndim - 1))
        count = guided_channels(sample, strong, channels)
        mixed = weak[:, :count].lerp(strong[:, :count], weight)  # weak + weight (strong - weak)
        return torch.cat([mixed, strong[:, count:]], dim=1) if count < strong.shape[1] else mixed

    return guided


def guided_channels(sample: Tensor, output: Tensor, channels: int | None) -> int:
    """How many of the leading entries of `output` [B, K, ...] are guided."""
    if not sample.is_floating_point():
        # Token numbers have no channels, and the second axis of logits may be their places.
        if channels is not None:
            raise ValueError(f"logits of tokens are guided whole, got channels {channels}")
        return output.shape[1]
    return channels or sample.shape[1]  # all but the variances
