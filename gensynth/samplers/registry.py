"""The diffusers schedulers that fit our models, and those that diffusers does not have."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.errors import UsageError
from gensynth.samplers.flow_schedulers import FlowODEScheduler, FlowScheduler, FlowSDEScheduler
from gensynth.samplers.respaced_ddim import RespacedDDIMScheduler
from gensynth.samplers.token_decoders import ConfidenceDecoder, HaltonDecoder, TokenDecoder

_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
_NOISE = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}
_OURS: dict[str, dict[str, Any]] = {"FlowODEScheduler": {}, "FlowSDEScheduler": {}}
# The schedulers that fit each prediction, and the settings that make them fit.
SCHEDULERS: dict[str, dict[str, dict[str, Any]]] = {
    "velocity": {
        "FlowMatchEulerDiscreteScheduler": {},
        "FlowMatchHeunDiscreteScheduler": {},
        "DPMSolverMultistepScheduler": _FLOW,
        "UniPCMultistepScheduler": _FLOW,
        **_OURS,
    },
    "noise": _OURS,
    "score": _OURS,
    "x": _OURS,
    "epsilon": {
        "DDPMScheduler": {
            **_NOISE,
            "variance_type": "learned_range",
            "timestep_spacing": "linspace",
        },
        "RespacedDDIMScheduler": {**_NOISE, "timestep_spacing": "linspace"},
        "DPMSolverMultistepScheduler": _NOISE,
        "UniPCMultistepScheduler": _NOISE,
        "EulerDiscreteScheduler": _NOISE,
        "EulerAncestralDiscreteScheduler": _NOISE,
        "HeunDiscreteScheduler": _NOISE,
    },
    "tokens": {"HaltonDecoder": {}, "ConfidenceDecoder": {}},
}
# These keep the sample at data + sigma * noise; the others at a mixture of unit variance.
SIGMA_SCALED = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
)


OWN_SCHEDULERS = {
    scheduler.__name__: scheduler
    for scheduler in (
        RespacedDDIMScheduler,
        FlowODEScheduler,
        FlowSDEScheduler,
        HaltonDecoder,
        ConfidenceDecoder,
    )
}


def create_scheduler(
    name: str | None,
    prediction: str,
    options: Mapping[str, Any] | None = None,
    path: str = "linear",
    betas: str = "linear",
) -> SchedulerMixin:
    """A scheduler that fits a model; None: the default.

    Args:
        name: of a scheduler that fits.
        prediction: a key of `SCHEDULERS`: "epsilon" (diffusion), "velocity", "noise", "score" or
            "x" (flow), or "tokens".
        options: keywords of its constructor.
        path: the flow's; those of diffusers know the linear one only.
        betas: those of the diffusion, "linear" or "cosine", or diffusers' word for them.

    Raises:
        UsageError: a name that does not fit, or an option that it does not have or refuses; the
            message lists those that do.
    """
    linear = path == "linear"
    fitting = {key: fit for key, fit in SCHEDULERS[prediction].items() if linear or key in _OURS}
    name = name or next(iter(fitting))
    if name not in fitting:
        on_path = "" if linear else f" on the {path} path"
        raise UsageError(
            f"scheduler {name!r} does not fit a model that predicts {prediction}{on_path}."
            f"{_nearest(name, fitting)} Fitting: {', '.join(fitting)}."
        )
    kind = OWN_SCHEDULERS.get(name) or getattr(diffusers, name)
    known = list(inspect.signature(kind.__init__).parameters)
    keywords = {key: value for key, value in fitting[name].items() if key in known}
    if "beta_schedule" in keywords:
        keywords["beta_schedule"] = "squaredcos_cap_v2" if betas == "cosine" else betas
    if issubclass(kind, FlowScheduler):
        keywords |= {"path": path, "prediction": prediction}
    return _made(kind, keywords, options or {}, [key for key in known if key not in _NOT_OPTIONS])


def with_options(scheduler: SchedulerMixin, options: Mapping[str, Any]) -> SchedulerMixin:
    """A scheduler like this one but for some options of its constructor.

    Raises:
        UsageError: an option that it does not have or refuses; the message lists those it has.
    """
    known = list(inspect.signature(type(scheduler).__init__).parameters)
    keywords = {key: value for key, value in scheduler.config.items() if key in known}
    return _made(type(scheduler), keywords, options, [k for k in known if k not in _NOT_OPTIONS])


def steps_range(scheduler: SchedulerMixin, positions: int) -> tuple[int, int]:
    """The fewest and the most steps that a scheduler can take over latents of so many positions."""
    if isinstance(scheduler, FlowScheduler):
        return scheduler.steps_range
    if isinstance(scheduler, TokenDecoder):
        return 1, positions
    return 1, scheduler.config.num_train_timesteps


# The last ones make a scheduler fit its model, which options must not change.
_NOT_OPTIONS = {"self", "args", "kwargs", "path", "prediction", "prediction_type"} | {
    *("use_flow_sigmas", "beta_schedule", "beta_start", "beta_end", "trained_betas")
}


def _made(
    kind: type[SchedulerMixin],
    keywords: dict[str, Any],
    options: Mapping[str, Any],
    known: list[str],
) -> SchedulerMixin:
    for key in options:
        if key not in known:
            raise UsageError(
                f"{kind.__name__} has no option {key!r}.{_nearest(key, known)} "
                f"Known: {', '.join(known)}."
            )
    try:
        return kind(**{**keywords, **options})
    except UsageError:
        raise
    except (ValueError, TypeError, NotImplementedError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise UsageError(f"{kind.__name__} cannot be made with {given}: {error}.") from error


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""
