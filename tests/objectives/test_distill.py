"""What a student is asked and told, against numbers written out, and the noise of diffusers."""

from types import SimpleNamespace

import diffusers
import pytest
import torch
from torch import nn

from gensynth.config import Distill
from gensynth.errors import UsageError
from gensynth.objectives import Loss
from gensynth.objectives.diffusers_noise import noise_objective
from gensynth.objectives.distill import DistillObjective
from gensynth.seeding import StepRandom

LATENTS = torch.linspace(-1, 1, 3 * 2 * 4 * 4).view(3, 2, 4, 4)


def random(step=0):
    return StepRandom(0, step, slice(0, 3), 3)


class Layers(nn.Module):
    """x -> a x -> b a x, and words beside the first."""

    def __init__(self, a, b):
        super().__init__()
        self.first, self.second = Times(a, words=True), Times(b)

    def forward(self, x, time):
        return self.second(self.first(x)[0])


class Times(nn.Module):
    def __init__(self, factor, words=False):
        super().__init__()
        self.factor, self.words = nn.Parameter(torch.tensor(factor)), words

    def forward(self, x):
        return (self.factor * x, torch.full_like(x, 99.0)) if self.words else self.factor * x


def test_the_loss_is_the_published_sum():
    """data + 0.5 output + 0.5 (mean over attentions), without words; the student learns."""
    student, teacher = Layers(2.0, 3.0), Layers(1.0, 5.0)
    own = SimpleNamespace(loss=lambda model, x, *_: Loss(model(x, 0).mean() * 0 + 7.0))
    section = Distill(teacher="x")
    objective = DistillObjective(section, own, teacher, student, ["first", "second"])
    found = objective.loss(student, torch.ones(1, 2), {}, random())
    # outputs 6 and 5; the first gives 2 and 1, the second 6 and 5
    assert found.parts["output"] == 1 and found.parts["attention"] == (1 + 1) / 2
    assert found.total == 7 + 0.5 * 1 + 0.5 * 1
    found.total.backward()
    assert student.first.factor.grad is not None and teacher.first.factor.grad is None
    weighted = Distill(teacher="x", data=0, output=3, attention=0)
    objective = DistillObjective(weighted, own, teacher, student, ["first"])
    assert objective.loss(student, torch.ones(1, 2), {}, random()).total == 3


class Heard:
    """A network that says nothing and remembers what it was asked."""

    def __call__(self, sample, time, **told):
        self.sample, self.time = sample, time
        return torch.zeros_like(sample)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_diffusion(prediction):
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = diffusers.PNDMScheduler(**betas, prediction_type=prediction)
    heard = Heard()
    section = Distill(teacher="x", label_dropout=0)
    loss = noise_objective(section, scheduler, None).loss(heard, LATENTS, {}, random())
    signal = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    signal = signal[heard.time][:, None, None, None]
    noise = (heard.sample - signal.sqrt() * LATENTS) / (1 - signal).sqrt()
    assert 0.5 < noise.std() < 1.5
    target = noise
    if prediction == "v_prediction":
        target = signal.sqrt() * noise - (1 - signal).sqrt() * LATENTS
    torch.testing.assert_close(loss.total, target.square().mean(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "at_half"),
    [
        ({"shift": 3.0}, 3 * 0.5 / (1 + 2 * 0.5)),  # Stable Diffusion 3
        ({"shift": 3.0, "use_dynamic_shifting": True}, 0.5),  # FLUX.1-dev
    ],
)
def test_a_flow(settings, at_half, monkeypatch):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    section = Distill(teacher="x", label_dropout=0)
    objective = noise_objective(section, scheduler, None)
    shares = torch.tensor([0.0, 0.5, 0.9999999])  # the last rounds to 1 in a thousand steps
    monkeypatch.setattr(StepRandom, "uniform", lambda self, *shape: shares)
    heard = Heard()
    loss = objective.loss(heard, LATENTS, {}, random())
    sigma = heard.time / 1000
    assert sigma[0] == 1 and abs(sigma[1] - at_half) < 2e-3 and 0 < sigma[2] < 0.004
    sigma = sigma[:, None, None, None]
    noise = (heard.sample - (1 - sigma) * LATENTS) / sigma
    torch.testing.assert_close(loss.total, (noise - LATENTS).square().mean(), rtol=1e-3, atol=1e-3)


def test_what_is_not_known_is_refused():
    section = Distill(teacher="x")
    with pytest.raises(UsageError, match="EDMEulerScheduler"):
        noise_objective(section, diffusers.EDMEulerScheduler(), None)
    with pytest.raises(UsageError, match="predicts sample"):
        noise_objective(section, diffusers.DDIMScheduler(prediction_type="sample"), None)
    with pytest.raises(UsageError, match=r"objective\.time logit-normal is of flows"):
        noise_objective(Distill(teacher="x", time="logit-normal"), diffusers.DDIMScheduler(), None)
