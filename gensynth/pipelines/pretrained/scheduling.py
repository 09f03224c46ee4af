"""Which scheduler a walk of a pretrained pipeline takes: a fresh one, checked."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
from torch import Tensor

from gensynth.errors import UsageError, first_line
from gensynth.files import DAMAGED
from gensynth.pipelines.pretrained.checking import check_scheduler
from gensynth.pipelines.pretrained.families import FAMILIES, Family
from gensynth.pipelines.pretrained.quiet import quietly
from gensynth.samplers.registry import with_options
from gensynth.settings import Settings

# Their noise is made by no generator that is handed to them.
UNSEEDED = ("DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler")
FLOWS = ("FlowMatchEulerDiscreteScheduler",)
LONGEST = 1000  # timesteps, of a scheduler that does not say how many it was made for
# Their steps say where the sample is next, and not what they expect at the end.
SILENT = (
    *("PNDMScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
    *("EDMDPMSolverMultistepScheduler", "SASolverScheduler"),
)
NOISED = ("TCDScheduler",)  # what these say beside has noise in it
LEARNED = ("learned", "learned_range")  # variances that a network would have to say


def chosen_scheduler(own: Any, inner: Any, family: Family, settings: Settings) -> Any:
    """A scheduler for one walk of `inner`, as the settings say, or like the pipeline's own.

    Raises:
        UsageError: one that does not fit, an option that it does not have or that needs what the
            pipeline does not say, or one whose noise no seed decides.
    """
    name = settings.scheduler or type(own).__name__
    check_scheduler(family, name, type(own).__name__)
    try:
        with quietly():
            scheduler = copy.deepcopy(own) if name == type(own).__name__ else _like(own, name)
            if settings.scheduler_options:
                scheduler = with_options(scheduler, settings.scheduler_options)
    except ImportError as error:  # an option that needs another library
        raise UsageError(f"{name} cannot be made so: {first_line(error)}.") from error
    stochastic = scheduler.config.get("stochastic_sampling") and not _takes(inner, "eta")
    if name in UNSEEDED or stochastic:
        raise UsageError(
            f"{name}{' with stochastic_sampling' if stochastic else ''} draws noise that no seed "
            f"decides; take another scheduler, such as {family.schedulers[0]}."
        )
    _check_needs(name, scheduler.config, family)
    return scheduler


def _check_needs(name: str, config: Mapping[str, Any], family: Family) -> None:
    """Refuses what a scheduler would have to be told in every walk, and is not."""
    if config.get("use_dynamic_shifting") and not family.by_size:
        raise UsageError(
            f"{family.title} does not say how far a scheduler with use_dynamic_shifting is to "
            f"shift; give the option use_dynamic_shifting=false of {name}."
        )
    if config.get("variance_type") in LEARNED:
        fixed = "fixed_small" if "DDPM" in name else "null"
        raise UsageError(
            f"{family.title} tells no scheduler a variance, which variance_type="
            f"{config['variance_type']} needs; give the option variance_type={fixed} of {name}."
        )


def _like(own: Any, name: str) -> Any:
    """Another scheduler for what the network of a pipeline with `own` says.

    The schedulers of flows have two ways to say the same.
    """
    # Latents are no pixels: where the own one says nothing, nothing is cut off.
    config = {"clip_sample": False, "thresholding": False, **own.config}
    if config.get("use_flow_sigmas") or name in FLOWS or type(own).__name__ in FLOWS:
        shift = config.get("flow_shift", config.get("shift", 1.0))
        config |= {"shift": shift, "flow_shift": shift}
        config |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    return getattr(diffusers, name).from_config(config)


def check_walk(inner: Any, scheduler: Any, settings: Settings, steps: int) -> None:
    """Refuses steps that a scheduler cannot take, and settings that it does not understand.

    Raises:
        UsageError: with what is allowed.
    """
    name = type(scheduler).__name__
    if settings.timesteps is not None and not _takes(inner, "timesteps"):
        title = FAMILIES[type(inner).__name__].title
        raise UsageError(f"{title} cannot be told timesteps; give steps.")
    if settings.timesteps is not None and not _schedules(type(scheduler)):
        known = FAMILIES[type(inner).__name__].schedulers
        able = [one for one in known if _schedules(getattr(diffusers, one))]
        raise UsageError(
            f"{name} cannot be told timesteps; give steps, or take {' or '.join(able)}."
        )
    last = int(scheduler.config.get("num_train_timesteps", LONGEST)) - 1
    if settings.timesteps is not None and settings.timesteps[0] > last:
        raise UsageError(
            f"the timesteps of this pipeline end at {last}, got {settings.timesteps[0]}."
        )
    knows_eta = "eta" in inspect.signature(scheduler.step).parameters
    if settings.eta is not None and not (knows_eta and _takes(inner, "eta")):
        raise UsageError(f"{name} cannot be told eta; DDIMScheduler can, where it fits.")
    how: dict[str, Any] = {"num_inference_steps": steps}
    if settings.timesteps is not None:
        how = {"timesteps": list(settings.timesteps)}
    if scheduler.config.get("use_dynamic_shifting"):
        how["mu"] = 1.0  # the pipeline will have its own, by the size
    try:
        with quietly():
            copy.deepcopy(scheduler).set_timesteps(**how)
    except (*DAMAGED, ImportError) as error:
        raise UsageError(f"{name} cannot take {steps} steps so: {first_line(error)}.") from error


def chosen_steps(family: Family, scheduler: Any, settings: Settings, own: int) -> int:
    """How many steps to take: as given, or as many as there are timesteps, or the pipeline's own.

    Raises:
        UsageError: too few or too many for the scheduler, or two numbers.
    """
    fewest, most = steps_range(family, scheduler)
    steps = own if settings.steps is None else settings.steps
    if settings.timesteps is not None:
        steps = len(settings.timesteps)
        if settings.steps not in (None, steps):
            raise UsageError(
                f"the timesteps are {steps}, but steps is {settings.steps}; leave steps out."
            )
    if settings.timesteps is not None:  # LCM says which ones it would take, and takes others too
        most = LONGEST
    if not fewest <= steps <= most:
        raise UsageError(
            f"steps must be from {fewest} to {most}, got {steps} ({type(scheduler).__name__})."
        )
    return steps


def steps_range(family: Family, scheduler: Any) -> tuple[int, int]:
    """The fewest and the most steps of a scheduler."""
    fewest = family.fewest if type(scheduler).__name__ in SILENT else 1
    config = scheduler.config
    own = config.get("original_inference_steps")  # of LCM and TCD, which take some of these
    return fewest, int(own or config.get("num_train_timesteps", LONGEST))


def end_in(found: Sequence[Tensor], scheduler: Any) -> Tensor | None:
    """What a step of a scheduler expects at the end, of all that it gave; None: it does not say."""
    return found[1] if len(found) > 1 and type(scheduler).__name__ not in NOISED else None


def _takes(inner: Any, keyword: str) -> bool:
    return keyword in inspect.signature(type(inner).__call__).parameters


def _schedules(kind: Any) -> bool:
    return "timesteps" in inspect.signature(kind.set_timesteps).parameters
