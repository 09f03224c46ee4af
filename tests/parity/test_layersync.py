"""LayerSync's term (vita-epfl/LayerSync, transport/transport.py)."""

import pytest
import torch
from reference import load_reference

from gensynth.config import Flow
from gensynth.objectives.flow import FlowObjective
from gensynth.objectives.regularizers import layersync_loss


@pytest.fixture(scope="module")
def reference():
    return load_reference("layersync/loss.safetensors")


def term_and_gradient(reference, pairs):
    """The term [B, N] for pairs of 1-based block numbers, and the gradient of its mean."""
    features = reference.input["features"].clone().requires_grad_()
    term = layersync_loss([(features[i - 1], features[j - 1]) for i, j in pairs])
    (gradient,) = torch.autograd.grad(term.mean(), features)
    return term, gradient


def test_one_pair(reference):
    config = reference.config
    term, gradient = term_and_gradient(
        reference, [(config["encoder_depth"], config["gt_encoder_depth"])]
    )
    reference.check("layer_sync.reg", term)
    reference.check("layer_sync.grad_features", gradient)
    assert gradient[config["encoder_depth"] - 1].any()
    assert not gradient[config["gt_encoder_depth"] - 1].any()


def test_published_case_of_several_pairs_is_its_last_pair(reference):
    term, gradient = term_and_gradient(reference, reference.config["multi_blocks"][-1:])
    reference.check("multiple_sync.reg", term)
    reference.check("multiple_sync.grad_features", gradient)
    every, _ = term_and_gradient(reference, reference.config["multi_blocks"])
    first, _ = term_and_gradient(reference, reference.config["multi_blocks"][:1])
    torch.testing.assert_close(every, first + term)


def test_total(reference):
    x, config = reference.input, reference.config
    objective = FlowObjective(Flow(name="flow"), None)
    loss = objective.terms(x["model_output"], x["x1"], x["x0"], x["u"])
    for name in ("vanilla", "layer_sync", "multiple_sync"):
        reference.check(f"{name}.loss", loss)
    reference.check("vanilla.reg", torch.zeros(len(loss)))
    term, _ = term_and_gradient(reference, [(config["encoder_depth"], config["gt_encoder_depth"])])
    reference.check("total", loss.mean() + config["reg_weight"] * term.mean())
