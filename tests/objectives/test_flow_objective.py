import pytest
import torch
from torch import nn

from gensynth.config import Flow
from gensynth.objectives import drop
from gensynth.objectives.flow import FlowObjective
from gensynth.samplers.paths import PATHS, PREDICTIONS, per_sample
from gensynth.seeding import StepRandom

SHAPE = (4, 8, 8)
LABELS = {"class_labels": torch.arange(6)}
NULL = {"class_labels": torch.tensor([10])}
WEIGHTED = [
    (prediction, weighting)
    for prediction in PREDICTIONS
    for weighting in ("none", "velocity", "likelihood")
    if prediction != "velocity" or weighting == "none"
]


def random(size: int = 6) -> StepRandom:
    return StepRandom(0, 0, slice(0, size), size)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Perfect(nn.Module):
    """Knows the data, and so everything that may be predicted."""

    def __init__(self, data, path, prediction):
        super().__init__()
        self.data, self.path, self.prediction = data.double(), PATHS[path], prediction

    def forward(self, sample, timestep, class_labels):
        sample, timestep = sample.double(), timestep.double()
        output = self.path.convert(self.data, "x", self.prediction, sample, timestep)
        return output.float()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("prediction", "weighting"), WEIGHTED)
def test_a_perfect_model_has_no_loss(path, prediction, weighting):
    config = Flow(name="flow", path=path, prediction=prediction, weighting=weighting)
    objective = FlowObjective(config, NULL)
    data = drawn(6, *SHAPE)
    loss = objective.loss(Perfect(data, path, prediction), data, LABELS, random())
    assert loss.total < 1e-6
    worse = objective.loss(Perfect(data + 0.1, path, prediction), data, LABELS, random())
    assert worse.total > 1e-3


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prediction", ["noise", "score", "x"])
def test_the_velocity_weighting_is_the_loss_of_the_velocity(path, prediction):
    """An error of any prediction counts as much as the error of the velocity that follows."""
    config = Flow(name="flow", path=path, prediction=prediction, weighting="velocity")
    objective = FlowObjective(config, NULL)
    data, noise = drawn(6, *SHAPE), drawn(6, *SHAPE, seed=2)
    time = torch.linspace(0.1, 0.9, 6)
    sample, velocity = objective.path.interpolate(data, noise, time)
    output = drawn(6, *SHAPE, seed=3)
    implied = objective.path.convert(output, prediction, "velocity", sample, time)
    expected = (implied - velocity).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(
        objective.terms(output, data, noise, time), expected, atol=1e-4, rtol=1e-4
    )


def test_likelihood_weights_are_the_same_for_noise_and_data():
    data, noise, time = drawn(6, *SHAPE), drawn(6, *SHAPE, seed=2), torch.linspace(0.1, 0.9, 6)
    wrong = drawn(6, *SHAPE, seed=3)
    losses = []
    for prediction in ("noise", "score", "x"):
        config = Flow(name="flow", prediction=prediction, weighting="likelihood")
        objective = FlowObjective(config, NULL)
        sample, _ = objective.path.interpolate(data, noise, time)
        output = objective.path.convert(wrong, "noise", prediction, sample, time)
        losses.append(objective.terms(output, data, noise, time))
    torch.testing.assert_close(losses[1], losses[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses[2], losses[0], atol=1e-4, rtol=1e-4)


class Watching(nn.Module):
    """Notes what it is called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, sample, timestep, class_labels, **keywords):
        self.calls.append((sample, timestep, class_labels, keywords))
        return 0.5 * sample


def test_the_defaults_are_rectified_flow_to_the_last_bit():
    """Runs that were started before there were other paths continue as they were."""
    data, model = drawn(6, *SHAPE), Watching()
    objective = FlowObjective(Flow(name="flow", time_scale=1000.0), NULL)
    loss = objective.loss(model, data, LABELS, random())
    same = random()
    time, noise = same.uniform(), same.normal(*SHAPE)
    told = drop(LABELS, NULL, 0.1, same)
    t = time[:, None, None, None]
    sample = t * data + (1 - t) * noise
    (seen,) = model.calls
    assert torch.equal(seen[0], sample)
    assert torch.equal(seen[1], time * 1000.0)
    assert torch.equal(seen[2], told["class_labels"])
    expected = (0.5 * sample - (data - noise)).square().flatten(1).mean(dim=1).mean()
    assert torch.equal(loss.total, expected)


def test_passes_share_the_time_and_nothing_else():
    objective = FlowObjective(Flow(name="flow", label_dropout=0.5), NULL)
    data, model = drawn(64, *SHAPE), Watching()
    labels = {"class_labels": torch.arange(64) % 10}
    loss = objective.loss(model, data, labels, random(64), ({}, {"mask": 0.3}))
    (first, t1, labels1, none), (second, t2, labels2, masked) = model.calls
    assert (none, masked) == ({}, {"mask": 0.3})
    assert torch.equal(t1, t2)
    assert not torch.equal(first, second)
    assert not torch.equal(labels1, labels2)
    alone = objective.loss(model, data, labels, random(64))
    assert loss.total > alone.total
    assert torch.equal(model.calls[2][0], first)  # more passes change no draw of the first


@pytest.mark.parametrize("time", ["uniform", "logit-normal"])
@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        ({}, 0, 1),
        ({"prediction": "x"}, 1e-3, 1 - 1e-3),
        ({"path": "gvp", "prediction": "score", "train_eps": 0.2}, 0.2, 0.8),
        ({"path": "vp", "train_eps": 0.3}, 0, 0.7),
    ],
)
def test_times_keep_their_distance_from_the_ends(time, options, first, last):
    config = Flow(name="flow", time=time, logit_std=5.0, **options)
    times = FlowObjective(config, NULL).draw_time(random(20_000))
    assert first - 1e-6 <= times.min() < first + 0.01
    assert last - 0.01 < times.max() <= last + 1e-6


def test_scores_are_compared_as_noise():
    objective = FlowObjective(Flow(name="flow", prediction="score"), NULL)
    data, noise, time = drawn(3, *SHAPE), drawn(3, *SHAPE, seed=2), torch.tensor([0.1, 0.5, 0.9])
    score = -noise / per_sample(1 - time, noise) + 1
    torch.testing.assert_close(objective.terms(score, data, noise, time), (1 - time).square())
