"""The diffusers schedulers that fit our models, and one that diffusers does not have."""

import difflib
import inspect
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from gensynth.errors import UsageError

_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
_NOISE = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}
# The schedulers that fit each prediction, and the settings that make them fit.
SCHEDULERS: dict[str, dict[str, dict[str, Any]]] = {
    "velocity": {
        "FlowMatchEulerDiscreteScheduler": {},
        "FlowMatchHeunDiscreteScheduler": {},
        "DPMSolverMultistepScheduler": _FLOW,
        "UniPCMultistepScheduler": _FLOW,
    },
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
}
# These keep the sample at data + sigma * noise; the others at a mixture of unit variance.
SIGMA_SCALED = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
)


class RespacedDDIMScheduler(DDIMScheduler):
    """DDIM on a respaced chain, as facebookresearch/DiT samples (diffusion/respace.py).

    diffusers' own takes each step to `timestep - 1000 // steps`, which is not the next timestep of
    an evenly spaced list (999, 799, 599, ... for 6 steps). This one steps along the list: the
    cumulative alphas of the chosen timesteps become a chain of their own.
    """

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """The path of that many steps over 0..999, from noise to data."""
        super().set_timesteps(num_inference_steps, device)
        ascending = self.timesteps.flip(0).cpu()
        self.position = {int(timestep): index for index, timestep in enumerate(ascending)}
        self.alphas_cumprod: Tensor = (1 - self.betas).cumprod(0)[ascending]
        # DDIM steps back by this divided into the length of the full chain: by one position.
        self.num_inference_steps = self.config.num_train_timesteps

    def step(self, model_output: Tensor, timestep: int | Tensor, *args: Any, **kwargs: Any) -> Any:
        """One step from `timestep` to the next of the list; otherwise as diffusers' DDIM."""
        return super().step(model_output, self.position[int(timestep)], *args, **kwargs)


def create_scheduler(name: str | None, prediction: str) -> SchedulerMixin:
    """A scheduler that fits the prediction ("velocity" or "epsilon"); None: the default.

    Raises:
        UsageError: a name that does not fit; the message lists those that do.
    """
    fitting = SCHEDULERS[prediction]
    name = name or next(iter(fitting))
    if name not in fitting:
        close = difflib.get_close_matches(name, fitting, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"scheduler {name!r} does not fit a model that predicts {prediction}.{hint} "
            f"Fitting: {', '.join(fitting)}."
        )
    own = {RespacedDDIMScheduler.__name__: RespacedDDIMScheduler}
    scheduler_class = own.get(name) or getattr(diffusers, name)
    known = inspect.signature(scheduler_class.__init__).parameters
    return scheduler_class(**{key: value for key, value in fitting[name].items() if key in known})
