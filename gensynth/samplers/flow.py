"""The family of SiT's integrators, which call the model themselves, several times a step."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from gensynth.conditions import Conditions
from gensynth.samplers.contract import Meaning, Predict, Step, WholeWalks, normal
from gensynth.samplers.flow_schedulers import FlowScheduler, FlowStep


class FlowSampler(WholeWalks):
    """The ODE or an SDE of a flow."""

    def __init__(self, scheduler: FlowScheduler, meaning: Meaning):
        self.scheduler, self.meaning = scheduler, meaning

    def start(self, shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        return normal(shape, generators, self.meaning.device)

    def times(self, steps: int) -> list[float]:
        # On the model's device, whose rounding may be another than the CPU's.
        times = self.scheduler.times(steps, self.meaning.device)
        return [float(time * self.meaning.time_scale) for time in times]

    def noise_level(self, time: Tensor) -> Tensor:
        return 1 - time / self.meaning.time_scale

    def steps_range(self, positions: int) -> tuple[int, int]:
        return self.scheduler.steps_range

    def adapted(self, ask: Predict) -> Predict:
        def predict(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
            return ask(sample, time, conditions).to(sample.device, torch.float32)

        return predict

    def walk(
        self,
        predict: Predict,
        sample: Tensor,
        steps: int,
        conditions: Conditions,
        generators: Sequence[torch.Generator],
        done: int = 0,
    ) -> Iterator[Step]:
        assert not done, "a whole walk"
        shape = sample.shape[1:]

        def output(sample: Tensor, time: Tensor) -> Tensor:  # float32: integrators add small steps
            time = time * self.meaning.time_scale
            return predict(sample.to(self.meaning.dtype), time, conditions).float()

        def draw() -> Tensor:
            return normal(shape, generators, sample.device)

        for state in self.scheduler.integrate(output, sample, steps, draw):
            yield Step(state.index, state.steps, state.sample, partial(had_in_mind, state))


def had_in_mind(state: FlowStep) -> Tensor:
    """The data [B, ...] of a step."""
    return state.data
