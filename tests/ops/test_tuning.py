"""Tuning takes the fastest launch that gives a clear gain, whatever the clock."""

import pytest
import torch

from gensynth.errors import UsageError
from gensynth.ops import OPERATORS, use
from gensynth.ops.launches import find
from gensynth.ops.tuning import best_launches, tune


class Clock:
    """Runs the work, and says how long it took as it is told."""

    def __init__(self, times):
        self.times, self.calls = iter(times), 0

    def __call__(self, work):
        work()
        self.calls += 1
        return next(self.times)


@pytest.mark.parametrize(("second", "taken"), [(0.5, 1), (0.995, 0), (1.5, 0)])
def test_the_fastest_launch(second, taken):
    operator = OPERATORS["linear_attention"]
    key = next(iter(operator.launches()))
    shipped = operator.launches()[key]
    candidates = [shipped, *(c for c in operator.candidates(key) if c != shipped)]
    times = [1.0, second, *[2.0] * (len(candidates) - 2)]
    clock = Clock(times)
    with use("auto"):
        found, launch, sentence = next(
            iter(best_launches(operator, torch.device("cpu"), False, clock))
        )
    assert (found, launch) == (key, candidates[taken])
    assert clock.calls == len(candidates)
    assert key in sentence and f"{min(times[taken], 1.0):.3f} ms" in sentence
    assert find(operator.name, operator.launches(), key) == shipped  # tried ones are forgotten


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to tune")
def test_without_a_gpu_there_is_nothing_to_tune():
    with pytest.raises(UsageError, match="CUDA GPU"):
        next(tune())


def test_unknown_operators():
    with pytest.raises(UsageError, match="'conv'"):
        next(tune(["conv"]))
