"""What a pipeline calls at every step: its model, in the sampler's words and guided."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from gensynth.conditions import Conditions
from gensynth.models.backbone import Backbone
from gensynth.pipelines.contract import Composed, Resolved
from gensynth.samplers.contract import Meaning, Predict, Sampler
from gensynth.samplers.diffusion import WITH_VARIANCE
from gensynth.samplers.guidance import autoguidance, classifier_free, scheduled
from gensynth.samplers.registry import create_sampler
from gensynth.settings import FURTHER, Settings

GUIDES = "guide."  # before the names of conditions that the guide is told, beside the model's
ROW = "row"  # beside the conditions of an optimized walk: which row of its table a picture has


def fresh(scheduler: SchedulerMixin, model: Backbone) -> SchedulerMixin:
    """A scheduler with the same settings, and with a fixed variance if the model learned none."""
    changes: dict[str, Any] = {}
    if scheduler.config.get("variance_type") == "learned_range":
        if type(scheduler).__name__ not in WITH_VARIANCE:
            changes["variance_type"] = None  # DPM-Solver would look for it in what it is given
        elif not model.returns_variance:
            changes["variance_type"] = "fixed_large"
    return type(scheduler).from_config(scheduler.config, **changes)


def sampler_of(
    pipeline: Composed, scheduler: SchedulerMixin, settings: Settings | None = None
) -> Sampler:
    """What walks with a scheduler like this one; its own is left as it is.

    Raises:
        UsageError: settings of the walk that do not fit the scheduler.
    """
    model, config = pipeline.model, pipeline.config
    meaning = Meaning(
        prediction=config.prediction,
        time_scale=config.time_scale,
        diffusion_prediction=config.ddpm_prediction,
        mask_token=model.mask_token if model.works_on == "tokens" else -1,
        dtype=model.dtype,
        device=model.device,
    )
    choices = {} if settings is None else settings.of_the_walk()
    return create_sampler(fresh(scheduler, model), meaning, **choices)


def guided_model(
    pipeline: Composed, resolved: Resolved, conditions: Conditions
) -> tuple[Predict, dict[str, Tensor]]:
    """The model call of a walk, guided as its settings say, and the conditions to call it with.

    `conditions` [B, ...] are all that will be asked for, beside "nothing" where guidance needs it.
    """
    config, settings, sampler = pipeline.config, resolved.settings, resolved.sampler
    guide: Composed | None = settings.guide
    scale = scheduled(
        resolved.guidance,
        sampler.noise_level,
        config.guidance_schedule,
        config.guidance_power,
        settings.guidance_interval,
    )
    model, condition = pipeline.model, pipeline.condition
    none = condition.none(model.device)
    if settings.negative is not None:
        none = condition.encode([condition.item(settings.negative)], model.device)
    # Texts are encoded once, and not in every step; a guide reads them with an encoder of its own.
    of_guide: dict[str, Tensor] = {}
    if guide is not None:
        of_guide = guide.model.encoded(conditions_at(conditions, guide.model.device))
    conditions = model.encoded(conditions)
    if none is not None and guide is None:  # a guide takes the place of "nothing"
        none = model.encoded(none)
    asks_none = guide is None and resolved.guidance != 1
    told_apart = pipeline.optimized is not None or (guide and guide.optimized is not None)
    if told_apart:
        conditions, none = with_rows(conditions, none)
        of_guide = with_rows(of_guide, None)[0]
    told = none if asks_none else None
    predict = model_call(pipeline, resolved, conditions, told)
    if guide is None:
        predict = classifier_free(predict, scale, none, config.guided_channels)
    else:
        weak = model_call(guide, resolved, of_guide)
        predict = autoguidance(told_own(predict), told_guides(weak), scale, config.guided_channels)
        conditions = {**conditions, **{GUIDES + name: tensor for name, tensor in of_guide.items()}}
    for name, value in settings.further.items():
        act = FURTHER[name].act
        predict = predict if act is None else act(predict, value)
    return predict, dict(conditions)


def told_own(predict: Predict) -> Predict:
    """A model call without the conditions of a guide."""

    def ask(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        own = {name: told for name, told in conditions.items() if not name.startswith(GUIDES)}
        return predict(sample, time, own)

    return ask


def told_guides(predict: Predict) -> Predict:
    """The call of a guide, with its conditions among those of the model that it guides."""

    def ask(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        names = [name for name in conditions if name.startswith(GUIDES)]
        return predict(sample, time, {n.removeprefix(GUIDES): conditions[n] for n in names})

    return ask


def with_rows(
    conditions: Conditions, none: Conditions | None
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Both with the numbers of their rows: those of "nothing" follow those of the pictures."""
    some = next(iter(conditions.values()), None)
    if some is None:
        return dict(conditions), None if none is None else dict(none)
    count, device = len(some), some.device
    numbered = {**conditions, ROW: torch.arange(count, device=device)}
    if none is None:
        return numbered, None
    return numbered, {**none, ROW: torch.tensor([count], device=device)}


def without_rows(conditions: Conditions) -> dict[str, Tensor]:
    """What a model is to be told."""
    return {name: tensor for name, tensor in conditions.items() if name != ROW}


def model_call(
    pipeline: Composed, resolved: Resolved, conditions: Conditions, none: Conditions | None = None
) -> Predict:
    """The model where and in the number format it is, in the words of the walk's sampler.

    An optimized one prepares for a walk with `conditions` [B, ...] and, if given, `none` [1, ...];
    then it must not be asked for others.
    """
    ask: Predict = partial(asked, pipeline.model)
    optimized = pipeline.optimized
    if optimized is not None and optimized.model is pipeline.model:
        # A sampler of its own: listing the times uses it up.
        sampler = sampler_of(pipeline, resolved.sampler.scheduler, resolved.settings)
        times = sampler.times(resolved.steps)
        ask = optimized.at(times, conditions, none)
    return resolved.sampler.adapted(ask)


def asked(model: Backbone, sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
    """The output of a model, where and in the number format it is, for tensors from anywhere."""
    there = model.device
    told = without_rows(conditions_at(conditions, there))
    # Tokens are whole numbers in any format of the weights.
    dtype = model.dtype if sample.is_floating_point() else None
    return model.predict(sample.to(there, dtype), time.to(there), told)


def conditions_at(conditions: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The conditions on a device."""
    return {name: tensor.to(device) for name, tensor in conditions.items()}
