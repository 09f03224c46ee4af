"""SiT's samplers, as schedulers a pipeline saves: the ODE of a flow, and its SDEs.

diffusers' loop asks a scheduler for one step from one model output. These need several outputs a
step, or a step size of each picture's own, so they run the loop: `integrate` calls the model.
The functions are those of willisma/SiT, transport/ (arXiv 2401.08740), whose `num_steps` counts
grid points: our `steps` is one less for the ODE, and the same for an SDE with a last step.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from gensynth.errors import UsageError, did_you_mean
from gensynth.samplers.paths import DIFFUSION_FORMS, PATHS, PREDICTIONS, Path, per_sample
from gensynth.samplers.runge_kutta import METHODS, dormand_prince, fixed_step, later_times

Output = Callable[[Tensor, Tensor], Tensor]  # of the model, [B, ...], for x [B, ...] at time [B]
Draw = Callable[[], Tensor]  # standard normal noise of the sample's shape
MOST_STEPS = 10_000  # more are more likely a typo


@dataclass
class FlowStep:
    """After step `index` of 1..`steps`: the sample [B, ...] at `time`, and the data [B, ...] that
    the model expected on the way there."""

    index: int
    steps: int
    time: float
    sample: Tensor
    data: Tensor


class FlowScheduler(SchedulerMixin, ConfigMixin):
    """What the ODE and the SDE samplers share: a path, a prediction, an interval of time."""

    last_step: str | None = None

    def prepare(self, path: str, prediction: str, sample_eps: float | None) -> None:
        """Sets the path, and how far from the ends of time to stay (None: as SiT)."""
        one_of("path", path, PATHS)
        one_of("prediction", prediction, PREDICTIONS)
        self.path: Path = PATHS[path]
        self.prediction = prediction
        eps = self.path.default_eps(prediction)[1] if sample_eps is None else sample_eps
        if not 0 <= eps < 0.5:
            raise UsageError(f"sample_eps must be from 0 to below 0.5, got {sample_eps}.")
        if eps == 0 and (prediction != "velocity" or path == "vp"):
            raise UsageError(
                f"sample_eps must be above 0 for prediction {prediction} on the {path} path, "
                "whose velocity is infinite at an end of time."
            )
        self.eps = eps

    @property
    def steps_range(self) -> tuple[int, int]:
        """The fewest and the most steps that `integrate` takes."""
        return 1 if self.last_step is None else 2, MOST_STEPS

    def integrate(
        self, output: Output, sample: Tensor, steps: int, draw: Draw
    ) -> Iterator[FlowStep]:
        """Every step from noise [B, ...] to data."""
        raise NotImplementedError

    def times(self, steps: int, device: torch.device | str) -> list[Tensor]:
        """Every time that `integrate` asks the model for, in order; scalars on `device`.

        They are computed as there, so that they are equal to the last bit; empty if the steps are
        chosen on the way.
        """
        raise NotImplementedError

    def converted(
        self, output: Output, x: Tensor, time: Tensor, targets: Iterable[str]
    ) -> list[Tensor]:
        """The model's output at `x` [B, ...] and `time` [B] as each of the predictions named."""
        said = output(x, time)  # one call of the model for all targets
        return [self.path.convert(said, self.prediction, name, x, time) for name in targets]


class FlowODEScheduler(FlowScheduler):
    """The probability flow ODE dx = velocity dt.

    Args:
        path: "linear", "gvp" or "vp".
        prediction: what the model gives, "velocity", "noise", "score" or "x".
        method: "euler", "heun" (SiT's for its tables), "heun3", "midpoint", "rk4", or "dopri5",
            which chooses its steps: then `steps` only says how often it reports.
        rtol, atol: the error that dopri5 allows in a step, for each picture alone.
        sample_eps: how far from the ends of time to stay; None for SiT's choice.
    """

    @register_to_config
    def __init__(
        self,
        path: str = "linear",
        prediction: str = "velocity",
        method: str = "heun",
        rtol: float = 1e-3,
        atol: float = 1e-6,
        sample_eps: float | None = None,
    ):
        self.prepare(path, prediction, sample_eps)
        one_of("method", method, [*METHODS, "dopri5"])
        if not (rtol > 0 and atol > 0):
            raise UsageError(f"rtol and atol must be above 0, got {rtol} and {atol}.")
        self.method, self.rtol, self.atol = method, rtol, atol

    def integrate(
        self,
        output: Output,
        sample: Tensor,
        steps: int,
        draw: Draw | None = None,
        reverse: bool = False,
    ) -> Iterator[FlowStep]:
        """Every step from noise [B, ...] to data, or back with `reverse`. `draw` is not used."""
        grid = self.grid(steps, reverse)

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            return self.converted(output, x, time, ["velocity"])[0]

        if self.method == "dopri5":
            states = dormand_prince(velocity, sample, grid, self.rtol, self.atol)
            for index, (sample, place) in enumerate(states, 1):
                data = self.data(place.slope, place.x, place.time.to(sample.dtype))
                yield FlowStep(index, steps, float(grid[index]), sample, data)
            return
        for index, (now, after) in enumerate(pairwise(grid.tolist()), 1):
            time = sample.new_full((len(sample),), now)
            slope = velocity(sample, time)  # for the step and the estimate
            data = self.data(slope, sample, time)
            step = torch.full_like(time, after - now)
            sample = fixed_step(velocity, sample, time, step, slope, self.method)
            yield FlowStep(index, steps, after, sample, data)

    def grid(self, steps: int, reverse: bool = False) -> Tensor:
        """The times [steps + 1] at which steps begin and end."""
        first, last = self.path.interval(self.eps)
        return torch.linspace(*((last, first) if reverse else (first, last)), steps + 1)

    def times(self, steps: int, device: torch.device | str) -> list[Tensor]:
        if self.method == "dopri5":
            return []
        found = []
        for now, after in pairwise(self.grid(steps).tolist()):
            time = torch.tensor(now, device=device)  # float32, as in `integrate`
            step = torch.full_like(time, after - now)
            found += [time, *later_times(time, step, METHODS[self.method])]
        return found

    def data(self, velocity: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """The data [B, ...] that a velocity leads to."""
        return self.path.convert(velocity, "velocity", "x", x, time)


class FlowSDEScheduler(FlowScheduler):
    """The reverse SDE dx = (velocity + D score) dt + sqrt(2 D) dw.

    Args:
        path, prediction, sample_eps: as for `FlowODEScheduler`.
        method: "euler" (Euler-Maruyama) or "heun".
        form, norm: D, as named in `DIFFUSION_FORMS`, and its size.
        last_step: how the last step goes from 1 - last_step_size to the data without noise:
            "mean" (drift of the SDE), "euler" (velocity), "tweedie" (the model's estimate), or
            None for no such step.
        last_step_size: length of the last step; 0.04 is SiT's, for 250 steps.
    """

    @register_to_config
    def __init__(
        self,
        path: str = "linear",
        prediction: str = "velocity",
        method: str = "euler",
        form: str = "sigma",
        norm: float = 1.0,
        last_step: str | None = "mean",
        last_step_size: float = 0.04,
        sample_eps: float | None = None,
    ):
        self.prepare(path, prediction, sample_eps)
        one_of("method", method, ["euler", "heun"])
        one_of("form", form, DIFFUSION_FORMS)
        one_of("last_step", last_step, ["mean", "euler", "tweedie", None])
        if not norm > 0:
            raise UsageError(f"norm must be above 0, got {norm}.")
        if not 0 < last_step_size < 1:
            raise UsageError(f"last_step_size must be between 0 and 1, got {last_step_size}.")
        self.method, self.form, self.norm = method, form, norm
        self.last_step, self.last_step_size = last_step, last_step_size
        first, last = self.interval()
        if form == "sbdm" and not self.path.diffusion(torch.tensor(first)).isfinite():
            raise UsageError(
                "form sbdm is infinite at time 0, where a velocity model starts on this path; "
                "set sample_eps (0.001 is usual) or another form."
            )
        if method == "heun" and self.path.sigma(torch.tensor(last)) == 0:
            raise UsageError(
                "method heun needs the score at the last time, where it is infinite; set "
                "sample_eps (0.001 is usual) or a last_step."
            )

    def interval(self) -> tuple[float, float]:
        """First and last time of the steps with noise."""
        first, last = self.path.interval(self.eps)
        if self.prediction == "velocity" and self.form != "sbdm":
            first = 0.0  # nothing is infinite there
        return first, last if self.last_step is None else 1 - self.last_step_size

    def diffusion(self, x: Tensor, time: Tensor) -> Tensor:
        """D [B, 1, 1, ...] at `time` [B]."""
        return DIFFUSION_FORMS[self.form](self.path, per_sample(time, x), self.norm)

    def drift(self, output: Output, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Drift of the SDE and the data the model expects, each [B, ...]."""
        velocity, score, data = self.converted(output, x, time, ["velocity", "score", "x"])
        return velocity + self.diffusion(x, time) * score, data  # SiT, sec. 2.3

    def integrate(
        self, output: Output, sample: Tensor, steps: int, draw: Draw
    ) -> Iterator[FlowStep]:
        """Every step from noise [B, ...] to data; `draw` is called once in each but the last."""
        for index, (now, after) in enumerate(pairwise(self.grid(steps)), 1):
            time = sample.new_full((len(sample),), now)
            sample, data = self.noisy_step(output, sample, time, after - now, draw())
            yield FlowStep(index, steps, after, sample, data)
        if self.last_step is not None:
            time = sample.new_full((len(sample),), self.interval()[1])
            sample, data = self.final_step(output, sample, time)
            yield FlowStep(steps, steps, 1.0, sample, data)

    def grid(self, steps: int) -> list[float]:
        """The times at which steps with noise begin and end."""
        first, last = self.interval()
        noisy = steps - (self.last_step is not None)  # the last step has no noise
        return torch.linspace(first, last, noisy + 1).tolist()

    def times(self, steps: int, device: torch.device | str) -> list[Tensor]:
        found = []
        for now, after in pairwise(self.grid(steps)):
            time = torch.tensor(now, device=device)
            found += [time] if self.method == "euler" else [time, time + (after - now)]
        if self.last_step is not None:
            found.append(torch.tensor(self.interval()[1], device=device))
        return found

    def noisy_step(
        self, output: Output, x: Tensor, time: Tensor, step: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sample after a step with noise, and the model's data, each [B, ...]."""
        shock = (2 * self.diffusion(x, time) * step).sqrt() * noise  # sqrt(2 D) dw
        if self.method == "euler":
            drift, data = self.drift(output, x, time)
            return x + step * drift + shock, data
        x = x + shock  # the noise first, then Heun for the drift alone
        drift, data = self.drift(output, x, time)
        following, _ = self.drift(output, x + step * drift, time + step)
        return x + step / 2 * (drift + following), data

    def final_step(self, output: Output, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """The sample after the last step, and the model's data, each [B, ...]."""
        velocity, score, data = self.converted(output, x, time, ["velocity", "score", "x"])
        if self.last_step == "tweedie":
            return data, data  # Tweedie: the mean of the data given x
        if self.last_step == "mean":
            velocity = velocity + self.diffusion(x, time) * score
        return x + self.last_step_size * velocity, data


def one_of(field: str, value: str | None, allowed: Iterable[str | None]) -> None:
    """Checks a name.

    Raises:
        UsageError: it is not one of those allowed; the message names the nearest.
    """
    if value in allowed:
        return
    names = ["null" if name is None else name for name in allowed]
    hint = did_you_mean(str(value), names)
    raise UsageError(f"{field} must be one of {', '.join(names)}, got {value!r}.{hint}")
