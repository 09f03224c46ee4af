import json

import pytest
import torch

from gensynth.errors import DivergedError, UsageError
from gensynth.samplers.flow_schedulers import FlowODEScheduler, FlowSDEScheduler
from gensynth.samplers.paths import PATHS, per_sample
from gensynth.samplers.registry import create_scheduler, fitting, predictions

MEAN, STD = 0.7, 0.5


def gaussian(path, prediction):
    """The exact model of data that is N(MEAN, STD^2) in every pixel."""

    def predict(x, time):
        t = per_sample(time, x)
        alpha, sigma = path.alpha(t), path.sigma(t)
        variance = (alpha * STD).square() + sigma.square()
        noise = sigma * (x - alpha * MEAN) / variance
        data = MEAN + alpha * STD**2 * (x - alpha * MEAN) / variance
        velocity = path.alpha_dot(t) * data + path.sigma_dot(t) * noise
        score = -(x - alpha * MEAN) / variance
        return {"velocity": velocity, "noise": noise, "score": score, "x": data}[prediction]

    return predict


def sample(scheduler, steps, reverse=False):
    """The last state of a run on the Gaussian, [4, 1, 64, 64]."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(4, 1, 64, 64, generator=generator)

    model = gaussian(scheduler.path, scheduler.prediction)
    options = {"reverse": True} if reverse else {}
    start = MEAN + STD * draw() if reverse else draw()
    return list(scheduler.integrate(model, start, steps, draw, **options))[-1].sample


def check(x, mean=MEAN, std=STD):
    assert abs(float(x.mean()) - mean) < 0.02
    assert abs(float(x.std()) - std) < 0.02


every_path = pytest.mark.parametrize("path", PATHS)


@every_path
@pytest.mark.parametrize("prediction", ["velocity", "noise", "score", "x"])
@pytest.mark.parametrize("method", ["euler", "heun", "heun3", "midpoint", "rk4", "dopri5"])
def test_odes_draw_the_gaussian(path, prediction, method):
    scheduler = create_scheduler("FlowODEScheduler", prediction, {"method": method}, path)
    check(sample(scheduler, 100 if method == "euler" else 40))


@pytest.mark.parametrize("method", ["heun", "dopri5"])
@every_path
def test_the_reverse_ode_leads_to_noise(path, method):
    scheduler = create_scheduler("FlowODEScheduler", "velocity", {"method": method}, path)
    check(sample(scheduler, 60, reverse=True), 0, 1)


@every_path
@pytest.mark.parametrize("prediction", ["velocity", "noise", "score", "x"])
@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("last_step", [None, "mean", "euler", "tweedie"])
def test_sdes_draw_the_gaussian(path, prediction, method, last_step):
    options = {
        "method": method,
        "last_step": last_step,
        "last_step_size": 0.01,
        "sample_eps": 1e-3,
        "norm": 0.5,
    }
    scheduler = create_scheduler("FlowSDEScheduler", prediction, options, path)
    check(sample(scheduler, 120))


@every_path
@pytest.mark.parametrize(
    "form", ["constant", "sbdm", "sigma", "linear", "decreasing", "increasing-decreasing"]
)
def test_every_diffusion_draws_the_gaussian(path, form):
    options = {"form": form, "sample_eps": 1e-3, "norm": 0.5, "last_step_size": 0.01}
    scheduler = create_scheduler("FlowSDEScheduler", "velocity", options, path)
    check(sample(scheduler, 200))


def rough(x, time):
    """A field in which some samples need many more steps than others."""
    t = per_sample(time, x)
    return torch.sin(x.mean(dim=(1, 2, 3), keepdim=True) * 40 * t) * x


@pytest.mark.parametrize(
    "scheduler", [FlowODEScheduler(method="dopri5"), FlowODEScheduler(), FlowSDEScheduler()]
)
def test_a_sample_does_not_depend_on_its_batch(scheduler):
    def run(rows):
        generators = [torch.Generator().manual_seed(row) for row in rows]

        def draw():
            return torch.stack([torch.randn(2, 4, 4, generator=g) for g in generators])

        start = draw() + torch.tensor(rows)[:, None, None, None]
        return [step.sample for step in scheduler.integrate(rough, start, 5, draw)]

    together = run([0, 1, 2])
    for row in range(3):
        for whole, alone in zip(together, run([row]), strict=True):
            torch.testing.assert_close(whole[row : row + 1], alone)


def test_an_easy_sample_takes_fewer_steps():
    """The step size is each sample's own: the model is called at unlike times."""
    times = []

    def watched(x, time):
        times.append(time.clone())
        return rough(x, time)

    start = torch.cat([torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)])
    steps = list(FlowODEScheduler(method="dopri5").integrate(watched, start, 3))
    easy, hard = torch.stack(times).unbind(dim=1)
    assert (easy == 1).sum() > (hard == 1).sum()
    assert [step.index for step in steps] == [1, 2, 3]
    assert times[-1].tolist() == [1, 1]


def test_dopri5_refuses_a_model_that_is_not_finite():
    start = torch.zeros(2, 1, 2, 2)
    walk = FlowODEScheduler(method="dopri5").integrate(lambda x, time: x / 0, start, 2)
    with pytest.raises(DivergedError, match="not finite"):
        list(walk)


@pytest.mark.parametrize("scheduler", [FlowODEScheduler(), FlowSDEScheduler()])
def test_records_say_where_a_run_stands(scheduler):
    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = gaussian(PATHS["linear"], "velocity")
    steps = list(scheduler.integrate(model, start, 4, lambda: torch.zeros_like(start)))
    assert [step.index for step in steps] == [1, 2, 3, 4]
    assert {step.steps for step in steps} == {4}
    assert [step.time for step in steps] == sorted(step.time for step in steps)
    assert steps[-1].time == 1
    assert all(step.data.shape == start.shape for step in steps)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FlowODEScheduler", {"method": "dopri5", "rtol": 1e-4, "sample_eps": 0.01}),
        ("FlowSDEScheduler", {"method": "heun", "form": "linear", "last_step": None, "norm": 2}),
    ],
)
def test_settings_survive_a_file(tmp_path, name, options):
    scheduler = create_scheduler(name, "noise", options, "vp")
    scheduler.save_config(tmp_path)
    content = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert options.items() <= content.items()
    loaded = type(scheduler).from_pretrained(tmp_path)
    loaded_again = json.loads(loaded.to_json_string())
    assert loaded_again == content
    assert (loaded.path, loaded.prediction) == (PATHS["vp"], "noise")


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("FlowODEScheduler", {"methd": "rk4"}, "no option 'methd'. Did you mean 'method'.* Known:"),
        ("FlowODEScheduler", {"path": "vp"}, "no option 'path'"),
        ("FlowODEScheduler", {"method": "heun2"}, "Did you mean '?heun"),
        ("FlowODEScheduler", {"rtol": 0}, "above 0"),
        ("FlowODEScheduler", {"rtol": "much"}, "rtol='much'"),
        ("FlowODEScheduler", {"sample_eps": 0.5}, "sample_eps .* below 0.5, got 0.5"),
        ("FlowSDEScheduler", {"form": "SBDM"}, "form must be one of constant, sbdm"),
        ("FlowSDEScheduler", {"form": "sbdm"}, "infinite at time 0"),
        ("FlowSDEScheduler", {"method": "heun", "last_step": None}, "score at the last time"),
        ("FlowSDEScheduler", {"last_step": "none"}, "mean, euler, tweedie, null"),
        ("FlowSDEScheduler", {"last_step_size": 1}, "between 0 and 1"),
        ("FlowSDEScheduler", {"norm": -1}, "norm"),
        ("FlowMatchEulerDiscreteScheduler", {"shfit": 3.0}, "Did you mean 'shift'"),
        ("UniPCMultistepScheduler", {"solver_type": "x"}, "solver_type='x'"),
        ("UniPCMultistepScheduler", {"prediction_type": "epsilon"}, "no option"),
    ],
)
def test_options_that_cannot_work_are_refused(name, options, expected):
    with pytest.raises(UsageError, match=expected):
        create_scheduler(name, "velocity", options)


@pytest.mark.parametrize("prediction", ["noise", "score", "x"])
def test_predictions_that_are_infinite_at_an_end_need_a_distance(prediction):
    with pytest.raises(UsageError, match="sample_eps must be above 0"):
        create_scheduler("FlowODEScheduler", prediction, {"sample_eps": 0})


def test_options_reach_diffusers_schedulers():
    scheduler = create_scheduler("FlowMatchEulerDiscreteScheduler", "velocity", {"shift": 3.0})
    assert scheduler.config["shift"] == 3.0


def test_ours_fit_every_prediction_of_a_flow():
    ours = {"FlowODEScheduler", "FlowSDEScheduler"}
    for prediction in predictions():
        flow = prediction not in ("epsilon", "tokens")
        assert (ours <= set(fitting(prediction))) == flow
        for path in ("gvp", "vp"):  # and there are no others off the linear path
            assert set(fitting(prediction, path)) == (ours if flow else set())
