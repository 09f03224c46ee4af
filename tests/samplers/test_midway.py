"""Walks that begin in their middle, from data with noise."""

import pytest
import torch

from gensynth.samplers.contract import Meaning
from gensynth.samplers.registry import create_sampler, create_scheduler

STEPS = 12
# Schedulers without noise of their own: with a model that knows the noise they find the data.
KNOWN = [
    ("FlowMatchEulerDiscreteScheduler", "velocity"),
    ("FlowMatchHeunDiscreteScheduler", "velocity"),
    ("DPMSolverMultistepScheduler", "velocity"),
    ("UniPCMultistepScheduler", "velocity"),
    ("RespacedDDIMScheduler", "epsilon"),
    ("EulerDiscreteScheduler", "epsilon"),
    ("HeunDiscreteScheduler", "epsilon"),
    ("DPMSolverMultistepScheduler", "epsilon"),
]


@pytest.mark.parametrize(("name", "prediction"), KNOWN)
@pytest.mark.parametrize("done", [1, 6, 11])
def test_who_knows_the_noise_finds_the_data(name, prediction, done):
    data, noise = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def sampler():
        return create_sampler(create_scheduler(name, prediction), Meaning(prediction))

    def ask(sample, time, conditions):
        calls.append(float(time[0]))
        return data - noise if prediction == "velocity" else noise

    calls = []
    assert sampler().midway
    midway = sampler().noised(data, noise, STEPS, done)
    one = sampler()
    generators = [torch.Generator() for _ in range(2)]
    walk = one.walk(one.adapted(ask), midway, STEPS, {}, generators, done)
    steps = list(walk)
    torch.testing.assert_close(steps[-1].sample, data, atol=2e-3, rtol=1e-3)
    whole = sampler()
    times = whole.times(STEPS)
    assert calls == times[len(times) - len(calls) :]  # the last of the whole walk
    assert len(steps) == len(times) - done * getattr(one.scheduler, "order", 1)


def test_families_that_begin_at_their_beginning():
    for name, prediction in (("FlowODEScheduler", "velocity"), ("HaltonDecoder", "tokens")):
        sampler = create_sampler(create_scheduler(name, prediction), Meaning(prediction))
        assert not sampler.midway
        with pytest.raises(NotImplementedError, match="no middle"):
            sampler.noised(torch.zeros(1), torch.zeros(1), 3, 1)
