"""Rectified flow and its Euler sampler are the published functions: willisma/SiT, transport/."""

import numpy as np
import torch
from reference import load_reference

from gensynth.objectives.flow import interpolate, velocity_loss
from gensynth.schedulers import create_scheduler


def test_training_loss_of_the_linear_path():
    reference = load_reference("sit/training_losses.safetensors")
    x = reference.input
    sample, velocity = interpolate(x["x1"], x["x0"], reference.output["Linear.velocity.t"])
    reference.check("Linear.velocity.xt", sample)
    reference.check("Linear.ut", velocity)
    reference.check("Linear.velocity.loss", velocity_loss(x["model_output"], velocity))


def test_uniform_times_are_those_of_the_reference():
    reference = load_reference("sit/training_losses.safetensors")
    torch.testing.assert_close(reference.output["Linear.velocity.t"], reference.input["u"])


def test_euler_sampling():
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
