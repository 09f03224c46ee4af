"""REPA's losses and its SiT with projectors (sihyun-yu/REPA, loss.py and models/sit.py)."""

import pytest
import torch
from reference import load_reference

from gensynth.config import Flow
from gensynth.convert import load_official
from gensynth.convert.families.sit import turned
from gensynth.objectives.flow import FlowObjective
from gensynth.objectives.hidden_states import as_tokens, hidden_states
from gensynth.objectives.regularizers import projector, repa_loss

PATHS = {"linear": "linear", "cosine": "gvp"}  # theirs -> ours


@pytest.fixture(scope="module")
def reference():
    return load_reference("repa/loss.safetensors")


def flow(path, **settings):
    return FlowObjective(Flow(name="flow", path=PATHS[path], train_eps=0.0, **settings), None)


class Stored:
    """Hands out stored draws."""

    def __init__(self, normal):
        self.stored = normal.flatten()

    def normal(self):
        return self.stored


@pytest.mark.parametrize("weighting", ["uniform", "lognormal"])
@pytest.mark.parametrize("path", PATHS)
def test_denoising_loss(reference, path, weighting):
    """REPA's time is 1 - ours, and its velocity therefore minus ours."""
    x, name, objective = reference.input, f"{path}.{weighting}", flow(path)
    time = 1 - reference.output[f"{name}.t"]
    sample, _ = objective.path.interpolate(x["images"], x["noise"], time)
    reference.check(f"{name}.model_input", sample)
    loss = objective.terms(-x["model_output"], x["images"], x["noise"], time)
    reference.check(f"{name}.denoising_loss", loss)


@pytest.mark.parametrize("path", PATHS)
def test_times(reference, path):
    x = reference.input
    reference.check(f"{path}.uniform.t", x["u"].flatten())
    # Log-normal: the ratio of noise to data is exp(normal).
    time, ours = 1 - reference.output[f"{path}.lognormal.t"], flow(path).path
    ratio = ours.sigma(time) / ours.alpha(time)
    torch.testing.assert_close(
        ratio, x["normal"].flatten().exp(), atol=reference.atol, rtol=reference.rtol
    )


def test_lognormal_on_the_linear_path_is_logit_normal(reference):
    objective = flow("linear", time="logit-normal")
    drawn = objective.draw_time(Stored(-reference.input["normal"]))
    reference.check("linear.lognormal.t", 1 - drawn)


def test_projection_loss(reference):
    x = reference.input
    projected = [x[f"z_tilde{n}"].clone().requires_grad_() for n in range(2)]
    loss = sum(repa_loss(z, x[f"z{n}"]) for n, z in enumerate(projected)) / len(projected)
    reference.check("proj_loss", loss)
    for n, gradient in enumerate(torch.autograd.grad(loss, projected)):
        reference.check(f"grad_z_tilde{n}", gradient)


def test_sit_with_projectors():
    reference = load_reference("repa/sit_forward.safetensors")
    config, x = reference.config, reference.input
    depth, projector_dim = config["encoder_depth"], config["projector_dim"]
    z_dims = config["z_dims"]
    model = load_official("sit", reference.state, **config).eval()

    block = f"blocks.{depth - 1}"  # theirs count from 1
    with hidden_states(model, [block]) as states:
        reference.check("out", model(x["x"], x["t"], x["y"]))
    for n, dim in enumerate(z_dims):
        own = projector(config["hidden_size"], projector_dim, dim)
        prefix = f"projectors.{n}."
        own.load_state_dict(
            {k.removeprefix(prefix): v for k, v in reference.state.items() if k.startswith(prefix)}
        )
        projected = own(as_tokens(states[block]))
        reference.check(f"z{n}", projected)
        gradients = torch.autograd.grad(
            projected.square().mean(), list(own.parameters()), retain_graph=True
        )
        assert all(g.isfinite().all() and g.any() for g in gradients)


def test_weights_turned_to_the_time_and_velocity_of_sit():
    """What a converted checkpoint draws with: data - noise, at a time that is 0 at noise."""
    reference = load_reference("repa/sit_forward.safetensors")
    x = reference.input
    model = load_official("sit", reference.state, **reference.config).eval()
    model.load_state_dict(turned(model.state_dict()))
    with torch.inference_mode():
        reference.check("out", -model(x["x"], 1 - x["t"], x["y"]))
