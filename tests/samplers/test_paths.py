import itertools

import pytest
import torch

from gensynth.samplers.paths import DIFFUSION_FORMS, PATHS, PREDICTIONS, per_sample

every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@every_path
def test_ends_are_noise_and_data(path):
    ends = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(path.alpha(ends), torch.tensor([0.0, 1.0]), atol=0.007, rtol=0)
    torch.testing.assert_close(path.sigma(ends), torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)


@every_path
def test_dots_are_derivatives(path):
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    for value, dot in ((path.alpha, path.alpha_dot), (path.sigma, path.sigma_dot)):
        (gradient,) = torch.autograd.grad(value(t).sum(), t)
        torch.testing.assert_close(dot(t), gradient)
    (gradient,) = torch.autograd.grad(path.alpha(t).log().sum(), t)
    torch.testing.assert_close(path.log_alpha_dot(t), gradient)


def truth(path, data, noise, time):
    sample, velocity = path.interpolate(data, noise, time)
    score = -noise / path.sigma(per_sample(time, data))
    return sample, {"velocity": velocity, "noise": noise, "score": score, "x": data}


@every_path
@pytest.mark.parametrize(("source", "target"), itertools.product(PREDICTIONS, PREDICTIONS))
def test_every_prediction_becomes_every_other_at_each_samples_own_time(path, source, target):
    data, noise = draw(5, 4, 3, 3).double(), draw(5, 4, 3, 3, seed=1).double()
    time = torch.tensor([0.01, 0.3, 0.5, 0.9, 0.99], dtype=torch.float64)
    sample, known = truth(path, data, noise, time)
    torch.testing.assert_close(
        path.convert(known[source], source, target, sample, time), known[target]
    )


@every_path
def test_velocity_is_diffusion_of_the_score_less_drift(path):
    data, noise, time = draw(3, 2, 4, 4), draw(3, 2, 4, 4, seed=1), torch.tensor([0.2, 0.5, 0.8])
    sample, known = truth(path, data, noise, time)
    velocity = path.diffusion(per_sample(time, data)) * known["score"] - path.drift(sample, time)
    torch.testing.assert_close(velocity, known["velocity"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("time", [torch.rand(1), torch.rand(4), torch.rand(3, 1, 1, 1)])
def test_times_that_would_broadcast_wrongly_are_refused(time):
    x = draw(3, 4, 4, 4)  # four rows: torch would take four times for one of each row
    for call in (
        lambda: PATHS["linear"].interpolate(x, x, time),
        lambda: PATHS["linear"].convert(x, "velocity", "x", x, time),
        lambda: PATHS["linear"].drift(x, time),
    ):
        with pytest.raises(ValueError, match=r"time must have shape \(3,\)"):
            call()


def test_a_prediction_of_another_shape_is_refused():
    x, time = draw(3, 4, 4, 4), torch.rand(3)
    with pytest.raises(ValueError, match=r"\(3, 8, 4, 4\)"):
        PATHS["linear"].convert(draw(3, 8, 4, 4), "noise", "velocity", x, time)


@every_path
@pytest.mark.parametrize("form", DIFFUSION_FORMS)
def test_diffusion_is_never_negative(path, form):
    t = torch.linspace(1e-3, 1 - 1e-3, 50)
    diffusion = DIFFUSION_FORMS[form](path, t, 0.7)
    assert diffusion.shape == t.shape
    assert (diffusion >= 0).all()
