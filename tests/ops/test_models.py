"""Whole models on kernels compute what they compute on definitions, forward and backward."""

import pytest
import torch
from numerics import error

from gensynth import create_model
from gensynth.ops import use

MODELS = {
    "DiCo": ("DiCo-nano", {"depth": [1, 1, 1, 1, 1]}),
    "DiT linear": ("DiT-nano/2", {"mixer": "linear", "depth": 2}),
    "DiT local": ("DiT-nano/2", {"mixer": "local", "window": 3, "depth": 2}),
    "DiT local, pooled": (
        "DiT-nano/2",
        {"mixer": "local", "window": 2, "down_factor": 2, "depth": 2},
    ),
    "DiT nala": ("DiT-nano/2", {"mixer": "nala", "depth": 2}),
}


def output_and_gradients(model: torch.nn.Module, mode: str, device: torch.device):
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 16, 16, generator=generator).to(device)
    sample = sample.contiguous(memory_format=torch.channels_last).requires_grad_()
    timestep = torch.tensor([100.0, 700.0], device=device)
    labels = torch.tensor([3, 7], device=device)
    with use(mode):
        output = model(sample, timestep, labels)
        loss = (output * torch.linspace(-1, 1, output.numel(), device=device).view_as(output)).sum()
        leaves = [sample, *(p for p in model.parameters() if p.requires_grad)]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return output, [g for g in gradients if g is not None]


def every_weight_matters(name: str, keywords: dict) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(name, num_classes=10, **keywords)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return model.to(memory_format=torch.channels_last)


SLOW = ("DiCo", "DiT local, pooled")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS],
)
def test_kernels_compute_the_model(name, kernels, device, monkeypatch):
    model = every_weight_matters(*MODELS[name]).to(device)
    expected, expected_gradients = output_and_gradients(model, "reference", device)
    actual, gradients = output_and_gradients(model, "triton", device)
    assert error(actual, expected) < 1e-5
    assert len(gradients) == len(expected_gradients)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert error(one, other) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DiCo", "DiT linear", "DiT local"])
def test_kernels_are_called(name, kernels, device):
    """The operators stand in the traced graph; a model that fell back would pass otherwise."""
    model = every_weight_matters(*MODELS[name]).to(device).eval()
    seen = set()

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.add(str(function))
            return function(*args, **(kwargs or {}))

    with Watch():
        output_and_gradients(model, "triton", device)
    ours = {s for s in seen if s.startswith("gensynth.")}
    assert any("backward" in s for s in ours) and len(ours) >= 2, ours
