import pytest
import torch
from torch import nn

from gensynth.config import DDPM, Flow
from gensynth.objectives import create_objective, drop_labels
from gensynth.objectives.ddpm import DDPMObjective
from gensynth.objectives.flow import FlowObjective
from gensynth.seeding import StepRandom

SHAPE = (4, 8, 8)


def random(step: int = 0, size: int = 6) -> StepRandom:
    return StepRandom(0, step, slice(0, size), size)


class PerfectVelocity(nn.Module):
    """Knows the data, and so the velocity: (data - x_t) / (1 - t)."""

    def __init__(self, data, scale=1.0):
        super().__init__()
        self.data, self.scale = data, scale

    def forward(self, sample, timestep, class_labels):
        return (self.data - sample) / (1 - timestep / self.scale)[:, None, None, None]


@pytest.mark.parametrize("time", ["uniform", "logit-normal"])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_perfect_velocity_has_no_loss(time, scale):
    data = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    objective = FlowObjective(Flow(name="flow", time=time, time_scale=scale), null_label=10)
    labels = torch.zeros(6, dtype=torch.int64)
    loss = objective.loss(PerfectVelocity(data, scale), data, labels, random())
    assert loss.total < 1e-6
    worse = objective.loss(PerfectVelocity(data + 0.1, scale), data, labels, random())
    assert worse.total > 1e-3


class PerfectNoise(nn.Module):
    """Knows the data, and so the noise; its variance is the posterior's (-1)."""

    def __init__(self, data, diffusion):
        super().__init__()
        self.data, self.alphas = data, diffusion.tables["alphas_cumprod"]

    def forward(self, sample, timestep, class_labels):
        alpha = self.alphas[timestep][:, None, None, None]
        noise = (sample.double() - alpha.sqrt() * self.data) / (1 - alpha).sqrt()
        return torch.cat([noise.float(), torch.full_like(sample, -1)], dim=1)


def test_perfect_noise_has_no_loss_above_the_first_step():
    data = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    objective = DDPMObjective(DDPM(name="ddpm"), null_label=10)
    labels = torch.zeros(6, dtype=torch.int64)
    loss = objective.loss(PerfectNoise(data, objective.diffusion), data, labels, random())
    assert loss.total < 1e-4
    assert set(loss.parts) == {"mse", "vb"}


def test_bound_does_not_move_the_mean():
    """iDDPM: the variational bound trains the variance, the MSE the mean."""
    objective = DDPMObjective(DDPM(name="ddpm"), null_label=10)
    x0 = torch.zeros(2, *SHAPE)
    t = torch.tensor([3, 500])
    output = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    _, bound = objective.terms(output, x0, x0, torch.zeros_like(x0), t)
    bound.sum().backward()
    assert output.grad[:, :4].abs().max() == 0
    assert output.grad[:, 4:].abs().max() > 0


def test_label_dropout_share():
    labels = torch.arange(2000) % 10
    dropped = drop_labels(labels, 10, 0.1, random(size=2000))
    share = (dropped == 10).float().mean().item()
    assert 0.07 < share < 0.13
    kept = dropped != 10
    assert torch.equal(dropped[kept], labels[kept])


@pytest.mark.parametrize(
    ("config", "kind"), [(Flow(name="flow"), FlowObjective), (DDPM(name="ddpm"), DDPMObjective)]
)
def test_create_objective(config, kind):
    assert isinstance(create_objective(config, 10), kind)


def test_split_batch_sees_the_draws_of_the_whole():
    """The mean of two halves is the loss of the batch, whatever the split over processes."""
    data = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(6, dtype=torch.int64)
    objective = FlowObjective(Flow(name="flow"), null_label=10)
    whole = objective.loss(PerfectVelocity(data + 0.1), data, labels, random()).total
    halves = []
    for rows in (slice(0, 3), slice(3, 6)):
        part = StepRandom(0, 0, rows, 6)
        model = PerfectVelocity(data[rows] + 0.1)
        halves.append(objective.loss(model, data[rows], labels[rows], part).total)
    torch.testing.assert_close(torch.stack(halves).mean(), whole)
