"""Settings with a pipeline's own choices in place of those left to it, and checked."""

import math
from dataclasses import replace
from typing import Any

from gensynth.errors import UsageError
from gensynth.models.known import check_area, impossible_size
from gensynth.pipelines.contract import Composed, Resolved
from gensynth.pipelines.fit import check_guide
from gensynth.pipelines.highres.strategies import strategy_of
from gensynth.pipelines.model_call import sampler_of
from gensynth.samplers.contract import Sampler
from gensynth.samplers.guidance import check_interval
from gensynth.samplers.registry import create_scheduler, with_options
from gensynth.settings import FURTHER, Settings


def resolve(pipeline: Composed, settings: Settings) -> Resolved:
    """The settings of a call, complete, and a fresh sampler.

    Raises:
        UsageError: a value out of range; the message says what is allowed.
    """
    config = pipeline.config
    sampler = sampler_of(pipeline, chosen_scheduler(pipeline, settings), settings)
    guidance = config.guidance if settings.guidance is None else settings.guidance
    check_guidance(pipeline, guidance, settings.guide)
    check_negative(pipeline, settings.negative, guidance, settings.guide)
    given = settings.guidance_interval or config.guidance_interval
    interval = None if given is None else check_interval(given)
    size = checked_size(pipeline, config.size if settings.size is None else settings.size)
    steps = chosen_steps(pipeline, sampler, settings, size)
    if isinstance(settings.guide, str):
        raise UsageError(
            f"the guide {settings.guide!r} is a name; give the model itself: "
            f"guide=gensynth.load({settings.guide!r})."
        )
    if settings.guide is not None:
        check_guide(pipeline, settings.guide, guidance, size)
    further = {
        name: FURTHER[name].check(pipeline, value) for name, value in settings.further.items()
    }
    complete = replace(
        settings,
        steps=steps,
        guidance=guidance,
        guidance_interval=interval,
        size=size,
        scheduler=type(sampler.scheduler).__name__,
        scheduler_options=settings.scheduler_options or None,
        further=further,
    )
    resolved = Resolved(complete, sampler)
    strategy_of(settings).check(pipeline, resolved)
    return resolved


def chosen_scheduler(pipeline: Composed, settings: Settings) -> Any:
    """The scheduler that the settings name, or else the pipeline's."""
    scheduler = pipeline.scheduler
    if settings.scheduler not in (None, type(scheduler).__name__):  # its own keeps its options
        betas = scheduler.config.get("beta_schedule", "linear")
        scheduler = create_scheduler(
            settings.scheduler, pipeline.config.prediction, path=pipeline.config.path, betas=betas
        )
    if settings.scheduler_options:
        scheduler = with_options(scheduler, settings.scheduler_options)
    return scheduler


def check_guidance(pipeline: Composed, guidance: float, guide: Any) -> None:
    """Refuses a scale that the model cannot be guided with.

    Raises:
        UsageError: below 0, or another than 1 where there is nothing to lead away from.
    """
    if not 0 <= guidance < 1000:  # also refuses NaN
        raise UsageError(f"guidance must be from 0 upwards (1 is none), got {guidance}.")
    if guidance != 1 and guide is None and pipeline.condition.none(pipeline.model.device) is None:
        raise UsageError(
            "this model knows no way to draw without its condition; guidance must be 1."
        )


def check_negative(pipeline: Composed, negative: str | None, guidance: float, guide: Any) -> None:
    """Refuses a negative prompt that would change nothing.

    Raises:
        UsageError: a model without prompts, no guidance, or a guide in the place of the prompt.
    """
    if negative is None:
        return
    if pipeline.condition.reads != "texts":
        raise UsageError("this model takes no prompts, so no negative one; leave it out.")
    pipeline.condition.item(negative)  # refuses what is no prompt
    if guidance == 1 or guide is not None:
        why = "with guidance 1" if guide is None else "beside a guide, which takes its place"
        raise UsageError(f"a negative prompt has no effect {why}; leave one of the two out.")


def checked_size(pipeline: Composed, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        UsageError: not a multiple of what model and autoencoder need; the nearest one is named.
    """
    height, width = (size, size) if isinstance(size, int) else size
    multiple = pipeline.model.size_multiple * pipeline.autoencoder.patch
    if height < multiple or width < multiple or height % multiple or width % multiple:
        raise impossible_size(height, width, multiple)
    check_area(height, width)
    return height, width


def chosen_steps(
    pipeline: Composed, sampler: Sampler, settings: Settings, size: tuple[int, int]
) -> int:
    """How many steps to take: as given, or as many as a given path has, or the pipeline's own.

    Raises:
        UsageError: too few or too many for the sampler.
    """
    fewest, most = sampler.steps_range(positions(pipeline, size))
    # the model's own number as far as scheduler and size allow it
    own = fewest if settings.fixes_steps else min(max(pipeline.config.steps, fewest), most)
    steps = own if settings.steps is None else settings.steps
    if settings.fixes_steps and steps != own:
        raise UsageError(f"the timesteps are {own}, but steps is {steps}; leave steps out.")
    if not fewest <= steps <= most:
        raise UsageError(
            f"steps must be from {fewest} to {most}, got {steps} "
            f"({type(sampler.scheduler).__name__} at {size[0]}x{size[1]})."
        )
    return steps


def positions(pipeline: Composed, size: tuple[int, int]) -> int:
    """How many positions the latents or tokens of a picture of `size` have."""
    return math.prod(pipeline.autoencoder.latent_shape(*size)[-2:])  # of [C, h, w] or [h, w]
