import pytest
import torch
from torch import nn

from gensynth.config import DDPM, Flow
from gensynth.models import create_model
from gensynth.objectives import create_objective, drop
from gensynth.objectives.ddpm import DDPMObjective, full_chain, loss_terms
from gensynth.objectives.flow import FlowObjective
from gensynth.seeding import StepRandom

SHAPE = (4, 8, 8)
LABELS = {"class_labels": torch.zeros(6, dtype=torch.int64)}
NULL = {"class_labels": torch.tensor([10])}


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
    objective = FlowObjective(Flow(name="flow", time=time, time_scale=scale), NULL)
    loss = objective.loss(PerfectVelocity(data, scale), data, LABELS, random())
    assert loss.total < 1e-6
    worse = objective.loss(PerfectVelocity(data + 0.1, scale), data, LABELS, random())
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
    objective = DDPMObjective(DDPM(name="ddpm"), NULL)
    loss = objective.loss(PerfectNoise(data, objective.diffusion), data, LABELS, random())
    assert loss.total < 1e-4
    assert set(loss.parts) == {"mse", "vb"}


@pytest.mark.parametrize(("loss", "moves"), [("mse", False), ("rescaled_mse", False), ("kl", True)])
@pytest.mark.parametrize("prediction", ["epsilon", "x", "v"])
def test_the_bound_moves_the_mean_only_if_it_is_the_loss(loss, moves, prediction):
    """iDDPM: the variational bound trains the variance, the MSE the mean."""
    x0, noise = torch.zeros(2, *SHAPE), torch.ones(2, *SHAPE)
    t = torch.tensor([3, 500])
    output = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    terms = loss_terms(output, x0, noise, t, loss=loss, prediction=prediction)
    terms["vb"].sum().backward()
    assert bool(output.grad[:, :4].any()) == moves
    assert output.grad[:, 4:].abs().max() > 0


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_predictions_are_one_another():
    """The same picture predicted as noise, x_0 or v gives the same bound and x_0."""
    chain, t = full_chain(), torch.tensor([5, 400, 900])
    x0, noise = drawn(3, *SHAPE), drawn(3, *SHAPE, seed=1)
    xt = chain.add_noise(x0, noise, t)
    bounds = []
    for prediction in ("epsilon", "x", "v"):
        target = chain.target(prediction, x0, noise, t)
        atol = 2e-4 if prediction == "epsilon" else 1e-5  # divided by a signal of 0.01
        torch.testing.assert_close(
            chain.predict_x0(prediction, target, xt, t), x0, atol=atol, rtol=1e-5
        )
        output = torch.cat([target, drawn(3, *SHAPE, seed=2)], dim=1)
        bounds.append(chain.variational_bound(output, x0, xt, t, prediction))
    torch.testing.assert_close(bounds[1], bounds[0], atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(bounds[2], bounds[0], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("prediction", "weight"),
    [
        ("epsilon", lambda snr: snr.clamp(max=5) / snr),
        ("x", lambda snr: snr.clamp(max=5)),
        ("v", lambda snr: snr.clamp(max=5) / (snr + 1)),
    ],
)
def test_min_snr_weights(prediction, weight):
    chain, t = full_chain(), torch.tensor([0, 100, 300, 600, 999])
    tensors = (drawn(5, 8, 8, 8), drawn(5, *SHAPE, seed=1), drawn(5, *SHAPE, seed=2), t)
    plain = loss_terms(*tensors, prediction=prediction)
    weighted = loss_terms(*tensors, prediction=prediction, min_snr=5.0)
    alpha = chain.tables["alphas_cumprod"][t]
    expected = plain["mse"] * weight(alpha / (1 - alpha)).float()
    torch.testing.assert_close(weighted["mse"], expected)
    assert torch.equal(weighted["vb"], plain["vb"])


def test_kl_of_a_fixed_variance_needs_no_more_channels():
    tensors = (drawn(2, *SHAPE), drawn(2, *SHAPE, seed=1), drawn(2, *SHAPE, seed=2))
    t = torch.tensor([0, 700])
    terms = loss_terms(*tensors, t, loss="rescaled_kl")
    assert set(terms) == {"loss", "vb"}
    torch.testing.assert_close(terms["loss"], 1000 * terms["vb"])
    assert terms["loss"].isfinite().all()


@pytest.mark.parametrize("options", [{"loss": "l2"}, {"prediction": "velocity"}])
def test_unknown_losses_are_refused(options):
    sample = drawn(2, *SHAPE)
    with pytest.raises(ValueError, match="must be one of"):
        loss_terms(sample, sample, sample, torch.tensor([0, 1]), **options)


class Watching(nn.Module):
    """Notes what it is called with."""

    def __init__(self, twice: bool = True):
        super().__init__()
        self.twice, self.calls = twice, []

    def forward(self, sample, timestep, class_labels=None, **keywords):
        self.calls.append((sample, timestep, class_labels, keywords))
        return torch.cat([0.5 * sample, torch.zeros_like(sample)][: 1 + self.twice], dim=1)


def test_passes_share_the_timesteps_and_nothing_else():
    objective = DDPMObjective(DDPM(name="ddpm", label_dropout=0.5), NULL)
    data, model = drawn(64, *SHAPE), Watching()
    labels = {"class_labels": torch.arange(64) % 10}
    passes = ({}, {"mask": 0.3})
    loss = objective.loss(model, data, labels, random(size=64), passes)
    (first, t1, labels1, none), (second, t2, labels2, masked) = model.calls
    assert (none, masked) == ({}, {"mask": 0.3})
    assert torch.equal(t1, t2)
    assert not torch.equal(first, second)
    assert not torch.equal(labels1, labels2)
    assert set(loss.parts) == {"mse", "vb", "mask_mse", "mask_vb"}
    torch.testing.assert_close(loss.total, sum(loss.parts.values()))
    alone = objective.loss(model, data, labels, random(size=64))
    assert torch.equal(alone.parts["mse"], loss.parts["mse"])  # more passes change no draw


@pytest.mark.parametrize("options", [{"betas": "cosine"}, {"prediction": "v", "min_snr": 5.0}])
def test_options_reach_the_loss(options):
    objective = DDPMObjective(DDPM(name="ddpm", **options), NULL)
    data, model = drawn(6, *SHAPE), Watching()
    loss = objective.loss(model, data, LABELS, random())
    sample, t, _, _ = model.calls[0]
    chain = objective.diffusion
    noise = (sample - chain.at("signal", t) * data) / chain.at("noise", t)
    output = torch.cat([0.5 * sample, torch.zeros_like(sample)], dim=1)
    terms = loss_terms(
        output,
        data,
        noise,
        t,
        prediction=options.get("prediction", "epsilon"),
        min_snr=options.get("min_snr"),
        diffusion=chain,
    )
    torch.testing.assert_close(loss.parts["mse"], terms["mse"].mean())


def test_label_dropout_share():
    labels = torch.arange(2000) % 10
    told = drop({"class_labels": labels}, NULL, 0.1, random(size=2000))
    dropped = told.pop("class_labels")
    assert told == {}
    share = (dropped == 10).float().mean().item()
    assert 0.07 < share < 0.13
    kept = dropped != 10
    assert torch.equal(dropped[kept], labels[kept])


@pytest.mark.parametrize(
    ("config", "kind"), [(Flow(name="flow"), FlowObjective), (DDPM(name="ddpm"), DDPMObjective)]
)
def test_create_objective(config, kind):
    model = create_model("DiCo-nano", num_classes=7, hidden_size=8, depth=[1, 1, 1, 1, 1])
    objective = create_objective(config, model, {"class_labels": torch.tensor([7])})
    assert isinstance(objective, kind)
    told = {"class_labels": torch.zeros(64, dtype=torch.int64)}
    watching = Watching(twice=kind is DDPMObjective)
    objective.loss(watching, drawn(64, *SHAPE), told, random(size=64))
    assert set(watching.calls[0][2].tolist()) == {0, 7}


@pytest.mark.parametrize(
    "config", [Flow(name="flow", label_dropout=1.0), DDPM(name="ddpm", label_dropout=1.0)]
)
def test_without_a_null_label_nothing_is_dropped_and_the_draws_stay(config):
    data, model = drawn(64, *SHAPE), Watching(twice=config.name == "ddpm")
    told = {"class_labels": torch.arange(64) % 10}
    for conditions, none in ((told, None), (told, NULL), ({}, None)):
        create_objective(config, model, none).loss(model, data, conditions, random(size=64))
    kept, dropped, unconditional = model.calls
    assert torch.equal(kept[2], told["class_labels"])
    assert dropped[2].tolist() == [10] * 64
    assert unconditional[2] is None
    for one in (dropped, unconditional):
        assert torch.equal(one[0], kept[0]) and torch.equal(one[1], kept[1])


def test_split_batch_sees_the_draws_of_the_whole():
    """The mean of two halves is the loss of the batch, whatever the split over processes."""
    data = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    objective = FlowObjective(Flow(name="flow"), NULL)
    whole = objective.loss(PerfectVelocity(data + 0.1), data, LABELS, random()).total
    halves = []
    for rows in (slice(0, 3), slice(3, 6)):
        part = StepRandom(0, 0, rows, 6)
        model = PerfectVelocity(data[rows] + 0.1)
        told = {"class_labels": LABELS["class_labels"][rows]}
        halves.append(objective.loss(model, data[rows], told, part).total)
    torch.testing.assert_close(torch.stack(halves).mean(), whole)
