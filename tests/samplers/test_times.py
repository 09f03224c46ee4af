"""The times that a sampler lists are those that it asks the model for, to the last bit.

Tables of modulations rest on it: a time that is not listed is computed at its call, as ever.
"""

import pytest
import torch

from gensynth.samplers.contract import Meaning
from gensynth.samplers.paths import PATHS
from gensynth.samplers.registry import create_sampler, create_scheduler, fitting, predictions
from gensynth.samplers.runge_kutta import METHODS

MASKED = 8


def cases():
    """(scheduler, prediction, options, path) of everything that does not choose its steps."""
    for prediction in predictions():
        for path in PATHS if prediction not in ("epsilon", "tokens") else ["linear"]:
            for name in fitting(prediction, path):
                for options in variants(name):
                    words = [name, prediction, path, *map(str, options.values())]
                    yield pytest.param(name, prediction, options, path, id="-".join(words))


def variants(name: str) -> list[dict]:
    if name == "FlowODEScheduler":
        return [{"method": method} for method in METHODS if method != "dopri5"]
    if name == "FlowSDEScheduler":
        common = {"norm": 0.5, "last_step_size": 0.05, "sample_eps": 1e-3}
        return [
            {"method": method, "last_step": last, **common}
            for method in ("euler", "heun")
            for last in (None, "mean", "euler", "tweedie")
        ]
    return [{}]


def compare(name, prediction, options, path, steps, time_scale, dtype, device):
    scheduler = create_scheduler(name, prediction, options, path)
    meaning = Meaning(prediction, time_scale, mask_token=MASKED, dtype=dtype, device=device)
    listed = create_sampler(scheduler, meaning).times(steps)
    asked = []

    def ask(sample, time, conditions):
        assert set(time.tolist()) == {float(time[0])}
        asked.append(float(time[0]))
        if prediction == "tokens":
            return torch.zeros(len(sample), sample[0].numel(), MASKED + 1, device=device)
        if prediction == "epsilon":
            return torch.cat([0.5 * sample, torch.zeros_like(sample)], dim=1)
        return 0.5 * sample

    sampler = create_sampler(scheduler, meaning)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    start = sampler.start((8, 8) if prediction == "tokens" else (1, 4, 4), generators)
    walk = sampler.walk(sampler.adapted(ask), start, steps, {}, generators)
    assert len(list(walk)) >= steps
    if prediction == "tokens":  # all calls are alike, and one entry stands for them
        assert (listed, asked) == ([0.0], [0.0] * steps)
    else:
        assert listed == asked


@pytest.mark.parametrize(("name", "prediction", "options", "path"), cases())
def test_times_are_those_of_the_walk(name, prediction, options, path):
    for steps in (2, 7, 30):
        compare(name, prediction, options, path, steps, 1000.0, torch.float32, "cpu")
    compare(name, prediction, options, path, 13, 1.0, torch.bfloat16, "cpu")


@pytest.mark.gpu
def test_times_are_those_of_the_walk_on_a_gpu():
    """Whose rounding is another than the CPU's."""
    for case in cases():
        compare(*case.values, 30, 1000.0, torch.float32, "cuda")


@pytest.mark.parametrize("prediction", ["velocity", "x"])
def test_times_that_are_found_on_the_way_are_not_listed(prediction):
    scheduler = create_scheduler("FlowODEScheduler", prediction, {"method": "dopri5"})
    assert create_sampler(scheduler, Meaning(prediction)).times(5) == []
