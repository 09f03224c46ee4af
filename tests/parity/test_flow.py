"""Paths, predictions and losses of flow are the published functions: willisma/SiT, transport/."""

import numpy as np
import pytest
import torch
from reference import load_reference

from gensynth.config import Flow
from gensynth.objectives.flow import FlowObjective
from gensynth.samplers.paths import DIFFUSION_FORMS, PATHS, per_sample
from gensynth.samplers.registry import create_scheduler

NAMES = {"linear": "Linear", "gvp": "GVP", "vp": "VP"}
# The published code spells one form wrongly, and one in capitals.
FORMS = {"sbdm": "SBDM", "increasing-decreasing": "inccreasing-decreasing"}
VARIANTS = [
    f"{path}.velocity" if prediction == "velocity" else f"{path}.{prediction}{weighting}"
    for path in NAMES.values()
    for prediction in ("velocity", "noise", "score")
    for weighting in ("", ".velocity", ".likelihood")
    if prediction != "velocity" or not weighting
]


@pytest.mark.parametrize("name", NAMES)
def test_conversions(name):
    reference = load_reference("sit/conversions.safetensors")
    path, theirs = PATHS[name], NAMES[name]
    v, x, t = (reference.input[key] for key in "vxt")
    check = reference.check
    check(f"{theirs}.score_from_velocity", path.convert(v, "velocity", "score", x, t))
    check(f"{theirs}.noise_from_velocity", path.convert(v, "velocity", "noise", x, t))
    check(f"{theirs}.velocity_from_score", path.convert(v, "score", "velocity", x, t))
    check(f"{theirs}.drift", path.drift(x, t))
    check(f"{theirs}.diffusion", path.diffusion(per_sample(t, x)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", DIFFUSION_FORMS)
def test_diffusion_forms(name, form):
    reference = load_reference("sit/conversions.safetensors")
    time = per_sample(reference.input["t"], reference.input["x"])
    diffusion = DIFFUSION_FORMS[form](PATHS[name], time, reference.config["norm"])
    if form == "constant":
        diffusion = diffusion[0, 0, 0, 0]  # one number there, one for each sample here
    reference.check(f"{NAMES[name]}.diffusion_{FORMS.get(form, form)}", diffusion)


class Replayed:
    """Gives the stored uniform numbers."""

    def __init__(self, numbers):
        self.numbers = numbers

    def uniform(self):
        return self.numbers


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_losses(variant):
    reference = load_reference("sit/training_losses.safetensors")
    path, prediction, *weighting = variant.split(".")
    config = Flow(
        name="flow",
        path=path.lower(),
        prediction=prediction,
        weighting=weighting[0] if weighting else "none",
    )
    objective = FlowObjective(config, None)
    theirs = reference.config["variants"][variant]
    assert objective.path.default_eps(prediction) == (theirs["train_eps"], theirs["sample_eps"])
    x = reference.input
    time = objective.draw_time(Replayed(x["u"]))
    sample, velocity = objective.path.interpolate(x["x1"], x["x0"], time)
    for name, actual in {"t": time, "xt": sample}.items():
        if f"{variant}.{name}" in reference.output:
            reference.check(f"{variant}.{name}", actual)
    if prediction == "velocity":
        reference.check(f"{path}.ut", velocity)
    reference.check(f"{variant}.loss", objective.terms(x["model_output"], x["x1"], x["x0"], time))


def test_every_stored_loss_is_compared():
    reference = load_reference("sit/training_losses.safetensors")
    assert set(reference.config["variants"]) == set(VARIANTS)


def test_diffusers_euler_is_the_same_sampler():
    """SiT counts grid points, we count steps: 6 points are 5 steps."""
    reference = load_reference("sit/ode.safetensors")
    a, b = reference.input["a"], reference.input["b"]
    steps = reference.config["num_steps"] - 1
    scheduler = create_scheduler("FlowMatchEulerDiscreteScheduler", "velocity")
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    sample = reference.input["z"]
    states = [sample]
    for timestep in scheduler.timesteps:
        time = 1 - timestep / scheduler.config.num_train_timesteps
        velocity = a * sample + b * time + 0.3 * torch.sin(2 * sample)
        sample = scheduler.step(-velocity, timestep, sample).prev_sample
        states.append(sample)
    reference.check("Linear.velocity.euler", torch.stack(states))
