"""What every family of samplers can do, from noise to data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from gensynth.conditions import Conditions

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin  # seconds to import

# A model call: a sample [B, ...] at a time [B] under conditions [B, ...] -> what the model says.
Predict = Callable[[Tensor, Tensor, Conditions], Tensor]


@dataclass(frozen=True)
class Meaning:
    """What a model's input and output mean.

    Attributes:
        prediction: "velocity", "noise", "score" or "x" of a flow, "epsilon" of a diffusion, or
            "tokens".
        time_scale: the largest time that a flow model sees.
        diffusion_prediction: what a model of an "epsilon" pipeline says: "epsilon", "x" or "v".
        mask_token: of tokens, the number that means "masked".
        dtype: what the model computes in.
        device: where it is.
    """

    prediction: str
    time_scale: float = 1.0
    diffusion_prediction: str = "epsilon"
    mask_token: int = -1
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"


@dataclass
class Step:
    """After step `index` of 1..`steps`.

    Attributes:
        sample: latents [B, C, H, W] or tokens [B, h, w].
        estimate: gives the data that the model expected on the way there, of the sample's shape.
    """

    index: int
    steps: int
    sample: Tensor
    estimate: Callable[[], Tensor]  # computed only when called


class Sampler(Protocol):
    """A scheduler of one family, with the words of the model it samples from.

    A scheduler may remember its latest walk, so each walk has a sampler of its own.

    Attributes:
        midway: whether a walk can begin after some of its steps, from data with noise.
    """

    scheduler: "SchedulerMixin"
    midway: bool

    def __init__(self, scheduler: "SchedulerMixin", meaning: Meaning) -> None: ...

    def start(self, shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """Where walks begin: [B, *shape] on the model's device, one row for each generator."""
        ...

    def times(self, steps: int) -> list[float]:
        """What the model will be told in a walk, call by call; empty if that is found on the way.

        The sampler is used up.
        """
        ...

    def noise_level(self, time: Tensor) -> Tensor:
        """1 at pure noise and 0 at data, for times as the model sees them."""
        ...

    def steps_range(self, positions: int) -> tuple[int, int]:
        """The fewest and the most steps for a sample with that many positions."""
        ...

    def adapted(self, ask: Predict) -> Predict:
        """A model call in this family's terms, float32, which guidance may mix."""
        ...

    def noised(self, data: Tensor, noise: Tensor, steps: int, done: int) -> Tensor:
        """Data [B, ...] with as much of the noise as is left after `done` of `steps` steps.

        Of samplers that are `midway`. The sampler is used up.
        """
        ...

    def walk(
        self,
        predict: Predict,
        sample: Tensor,
        steps: int,
        conditions: Conditions,
        generators: Sequence[torch.Generator],
        done: int = 0,
    ) -> Iterator[Step]:
        """Every step from `sample` to data; random numbers come from each row's own generator.

        With `done`, of samplers that are `midway`, those after the first `done` of `steps`.
        """
        ...


class WholeWalks:
    """A family of samplers whose walks begin at their beginning."""

    midway = False

    def noised(self, data: Tensor, noise: Tensor, steps: int, done: int) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no middle")


def normal(shape: Sequence[int], generators: Sequence[torch.Generator], device: Any) -> Tensor:
    """Standard normal numbers [B, *shape]: each row from its own generator, on the CPU."""
    # The CPU's numbers are the same whichever device the model is on.
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators]).to(device)
