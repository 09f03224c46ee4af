"""Schedulers by name: the models each fits, and the family of samplers that walks with it.

Adding one: a line in `SAMPLERS`. Adding a family: a file beside `flow.py` with a `Sampler`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.errors import UsageError, did_you_mean
from gensynth.samplers.contract import Meaning, Sampler
from gensynth.samplers.diffusion import DiffusionSampler
from gensynth.samplers.flow import FlowSampler
from gensynth.samplers.flow_schedulers import FlowODEScheduler, FlowSDEScheduler
from gensynth.samplers.known import does_not_fit
from gensynth.samplers.respaced import DDPMScheduler, RespacedDDIMScheduler
from gensynth.samplers.token_decoders import ConfidenceDecoder, HaltonDecoder
from gensynth.samplers.tokens import TokenSampler

BETAS = frozenset(["beta_schedule", "beta_start", "beta_end", "trained_betas"])
FIXED = BETAS | {"prediction_type", "use_flow_sigmas", "path", "prediction"}
CHECKED = FIXED | {"num_train_timesteps"}  # in a scheduler that somebody has made


@dataclass(frozen=True)
class Entry:
    """What is known of a scheduler.

    Attributes:
        fits: what a model may predict -> the keywords that make the scheduler fit such a model.
        kind: its class; None for diffusers' of that name.
        family: what walks with it.
        any_path: whether it knows every path of a flow; the others know the linear one.
        fixed: its keywords that make it fit a model, which cannot be set by hand.
        choices: settings of a walk that it understands, keywords of its family.
    """

    fits: Mapping[str, Mapping[str, Any]]
    kind: type[SchedulerMixin] | None = None
    family: type[Sampler] = DiffusionSampler
    any_path: bool = False
    fixed: frozenset[str] = FIXED
    choices: tuple[str, ...] = ()


_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
_NOISE = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}
_SPACED = {**_NOISE, "timestep_spacing": "linspace"}
_CHAIN = ("timesteps", "timestep_respacing")
_ANY_FLOW: dict[str, dict[str, Any]] = {
    prediction: {"prediction": prediction} for prediction in ("velocity", "noise", "score", "x")
}
# By name. The first that fits a prediction is its default.
SAMPLERS: dict[str, Entry] = {
    "FlowMatchEulerDiscreteScheduler": Entry({"velocity": {}}),
    "FlowMatchHeunDiscreteScheduler": Entry({"velocity": {}}),
    "DDPMScheduler": Entry(
        {"epsilon": {**_SPACED, "variance_type": "learned_range"}}, DDPMScheduler, choices=_CHAIN
    ),
    "RespacedDDIMScheduler": Entry(
        {"epsilon": _SPACED}, RespacedDDIMScheduler, choices=(*_CHAIN, "eta")
    ),
    "DPMSolverMultistepScheduler": Entry({"velocity": _FLOW, "epsilon": _NOISE}),
    "UniPCMultistepScheduler": Entry({"velocity": _FLOW, "epsilon": _NOISE}),
    "EulerDiscreteScheduler": Entry({"epsilon": _NOISE}),
    "EulerAncestralDiscreteScheduler": Entry({"epsilon": _NOISE}),
    "HeunDiscreteScheduler": Entry({"epsilon": _NOISE}),
    "FlowODEScheduler": Entry(_ANY_FLOW, FlowODEScheduler, FlowSampler, any_path=True),
    "FlowSDEScheduler": Entry(_ANY_FLOW, FlowSDEScheduler, FlowSampler, any_path=True),
    "HaltonDecoder": Entry({"tokens": {}}, HaltonDecoder, TokenSampler),
    "ConfidenceDecoder": Entry({"tokens": {}}, ConfidenceDecoder, TokenSampler),
}
# Schedulers of diffusers that draw right where somebody puts one into a pipeline by hand, but are
# not offered: another of the same method is.
BY_HAND: dict[str, Entry] = {
    "DDIMScheduler": Entry({"epsilon": _NOISE}),
    "DDIMParallelScheduler": Entry({"epsilon": _NOISE}),
    "DDPMParallelScheduler": Entry({"epsilon": _NOISE}),
    "DEISMultistepScheduler": Entry({"epsilon": _NOISE}),
    "DPMSolverSinglestepScheduler": Entry({"velocity": _FLOW, "epsilon": _NOISE}),
}


def predictions() -> list[str]:
    """Everything that a model may predict and some scheduler fits."""
    return list(dict.fromkeys(key for entry in SAMPLERS.values() for key in entry.fits))


def fitting(prediction: str, path: str = "linear") -> list[str]:
    """The names of the schedulers that fit a model, the default first."""
    return [
        name
        for name, entry in SAMPLERS.items()
        if prediction in entry.fits and (path == "linear" or entry.any_path)
    ]


def create_sampler(scheduler: SchedulerMixin, meaning: Meaning, **choices: Any) -> Sampler:
    """What walks with a scheduler, whose latest walk is forgotten.

    Args:
        choices: settings of the walk that not every scheduler understands, by name.

    Raises:
        UsageError: one that it does not understand, or whose value is out of range.
    """
    name = type(scheduler).__name__
    entry = {**BY_HAND, **SAMPLERS}[name]
    for choice in choices:
        if choice not in entry.choices:
            names = fitting(meaning.prediction)
            able = [other for other in names if choice in SAMPLERS[other].choices]
            raise UsageError(
                f"{name} cannot be told {choice}; of the schedulers that fit this model, "
                f"{' and '.join(able) or 'none'} can."
            )
    return entry.family(scheduler, meaning, **choices)


def misfit(
    scheduler: Any, prediction: str, path: str = "linear", before: SchedulerMixin | None = None
) -> str | None:
    """Why a scheduler cannot draw with a model, and what to do; None if it can.

    Args:
        before: one that can, whose noise of a timestep is the model's; None: it is not known.
    """
    name, names = type(scheduler).__name__, fitting(prediction, path)
    if not names:
        known = ", ".join(predictions())
        return f"the prediction {prediction!r} is none that is known: {known}."
    entry = {**BY_HAND, **SAMPLERS}.get(name)
    if entry is None or prediction not in entry.fits or not (path == "linear" or entry.any_path):
        on_path = "" if path == "linear" else f" on the {path} path"
        return (
            f"a {name} does not fit a model that predicts {prediction}{on_path}. Fitting: "
            f"{', '.join(names)}."
        )
    wanted = {**entry.fits[prediction], "path": path}
    if prediction == "epsilon":
        wanted = {key: value for key, value in wanted.items() if key not in BETAS}
        wanted["prediction_type"] = "epsilon"
        if before is not None:
            noise = sorted(BETAS | {"num_train_timesteps"})
            wanted |= {key: before.config.get(key) for key in noise}
    has = inspect.signature(type(scheduler).__init__).parameters
    other = [
        f"{key}={value!r}"
        for key, value in wanted.items()
        if key in has and key in CHECKED and scheduler.config.get(key) != value
    ]
    if other:
        return f"this {name} is for another kind of model; make it with {', '.join(other)}."
    return None


def create_scheduler(
    name: str | None,
    prediction: str,
    options: Mapping[str, Any] | None = None,
    path: str = "linear",
    betas: str = "linear",
) -> SchedulerMixin:
    """A scheduler that fits a model.

    Args:
        name: of a scheduler that fits; None for the default.
        prediction: "epsilon" (diffusion), "velocity", "noise", "score" or "x" (flow), or "tokens".
        options: keywords of its constructor.
        path: the flow's; those of diffusers know the linear one only.
        betas: those of the diffusion, "linear" or "cosine", or diffusers' word for them.

    Raises:
        UsageError: a name that does not fit, or an option that it does not have or refuses; the
            message lists those that do.
    """
    if prediction not in predictions():
        raise UsageError(
            f"there is no prediction {prediction!r}.{did_you_mean(prediction, predictions())} "
            f"Known: {', '.join(predictions())}."
        )
    names = fitting(prediction, path)
    name = name or names[0]
    if name not in names:
        raise does_not_fit(name, prediction, path, names)
    entry = SAMPLERS[name]
    kind = entry.kind or getattr(diffusers, name)
    # Schedulers take different keywords; DPM-Solver, for one, has no `clip_sample`.
    known = inspect.signature(kind.__init__).parameters
    wanted = {**entry.fits[prediction], "path": path}
    keywords = {key: value for key, value in wanted.items() if key in known}
    if "beta_schedule" in keywords:
        keywords["beta_schedule"] = "squaredcos_cap_v2" if betas == "cosine" else betas
    return _made(kind, keywords, options or {})


def with_options(scheduler: SchedulerMixin, options: Mapping[str, Any]) -> SchedulerMixin:
    """A scheduler like this one but for some options of its constructor.

    Raises:
        UsageError: an option that it does not have or refuses; the message lists those it has.
    """
    known = inspect.signature(type(scheduler).__init__).parameters
    keywords = {key: value for key, value in scheduler.config.items() if key in known}
    return _made(type(scheduler), keywords, options)


def options_of(kind: type[SchedulerMixin]) -> list[str]:
    """The keywords of a scheduler that may be set by hand."""
    entry = SAMPLERS.get(kind.__name__) or Entry({})
    names = list(inspect.signature(kind.__init__).parameters)
    return [name for name in names if name not in {"self", "args", "kwargs"} | entry.fixed]


def _made(
    kind: type[SchedulerMixin], keywords: dict[str, Any], options: Mapping[str, Any]
) -> SchedulerMixin:
    known = options_of(kind)
    for key in options:
        if key not in known:
            raise UsageError(
                f"{kind.__name__} has no option {key!r}.{did_you_mean(key, known)} "
                f"Known: {', '.join(known)}."
            )
    try:
        return kind(**{**keywords, **options})
    except UsageError:  # a ValueError too, but it says what is allowed already
        raise
    except (ValueError, TypeError, IndexError, NotImplementedError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise UsageError(f"{kind.__name__} cannot be made with {given}: {error}.") from error
