"""Learning rates, weight averages and the log."""

import json

import pytest
import torch
from torch import nn

from gensynth.config import EMA, Optimizer
from gensynth.training.averages.ema import WeightAverage
from gensynth.training.learning.optim import learning_rate
from gensynth.training.watching.log import TrainingLog


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_learning_rate(schedule, expected):
    config = Optimizer(lr=1.0, warmup_steps=4, schedule=schedule)
    assert [learning_rate(config, step, 8) for step in range(8)] == pytest.approx(
        expected, abs=1e-5
    )


def test_average_is_the_formula():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, EMA(decay=0.5))
    values = []
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(model.weight, value)
        average.update()
        with average.applied():
            values.append(model.weight.item())
    # The first update copies; then each halves the distance.
    assert values == [1.0, 1.5, 2.75]
    assert model.weight.item() == 4.0


def test_applied_average_is_taken_back_after_an_error():
    model = nn.Linear(1, 1)
    average = WeightAverage(model, EMA(decay=0.5))
    average.update()
    nn.init.constant_(model.weight, 7.0)
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert model.weight.item() == 7.0 and model.training


def test_without_average_the_weights_are_their_own():
    model = nn.Linear(1, 1)
    average = WeightAverage(model, None)
    before = model.weight.clone()
    average.update()
    with average.applied():
        assert torch.equal(model.weight, before) and not model.training


def test_log_drops_steps_that_are_repeated_and_a_cut_line(tmp_path):
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    log = TrainingLog(tmp_path, start=2, total=5)
    log.record(3, {"loss": 0.5, "images_per_second": 1.0})
    log.close()
    kept = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in kept] == [1, 2, 3]
    assert kept[-1]["loss"] == 0.5
