"""DiCo on its kernels: the same model, compiled, recomputed, or without data."""

from collections.abc import Callable

import pytest
import torch
from numerics import error
from torch import Tensor

from gensynth.models.dico import DiCo
from gensynth.ops import choice

BLOCKS = [f"levels.{level}.0" for level in range(5)]


@pytest.fixture
def model(make_model: Callable, device: torch.device) -> DiCo:
    return make_model().to(device, memory_format=torch.channels_last)


def inputs(device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 4, 8, generator=generator)
    sample = sample.contiguous(memory_format=torch.channels_last)
    timestep, labels = torch.tensor([3.0, 700.0]), torch.tensor([1, 10])
    return sample.to(device), timestep.to(device), labels.to(device)


def run(model: Callable, parameters: list[Tensor], device: torch.device) -> list[Tensor]:
    """The prediction and the gradients of all parameters."""
    output = model(*inputs(device))
    weights = torch.linspace(-1, 1, output.numel(), device=device).view(output.shape)
    return [output.detach(), *torch.autograd.grad(output, parameters, weights)]


def test_kernels_and_definitions_agree(model, device):
    parameters = list(model.parameters())
    with choice.use("reference"):
        expected = run(model, parameters, device)
    with choice.use("triton"):
        actual = run(model, parameters, device)
    assert all(error(a, b) < 1e-4 for a, b in zip(actual, expected, strict=True))
    assert not torch.equal(actual[0], expected[0])  # the kernels ran


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_compiled_in_one_graph(model, device, mode):
    parameters = list(model.parameters())
    with choice.use(mode):
        expected = run(model, parameters, device)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        actual = run(compiled, parameters, device)
    assert all(error(a, b) < 1e-6 for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_recomputed_in_the_backward_pass(model, device, mode):
    parameters = list(model.parameters())
    model.train()
    with choice.use(mode):
        expected = run(model, parameters, device)
        model.enable_gradient_checkpointing()
        actual = run(model, parameters, device)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_hidden_states_of_blocks_can_be_read(model, kernels, device):
    seen = {}
    for name in BLOCKS:
        model.get_submodule(name).register_forward_hook(
            lambda block, args, output, name=name: seen.update({name: output.shape})
        )
    model(*inputs(device))
    assert list(seen) == BLOCKS
    assert seen["levels.0.0"] == (2, 8, 4, 8) and seen["levels.2.0"] == (2, 32, 1, 2)


def test_shapes_without_data(model):
    output = model.to("meta")(*inputs("meta"))
    assert output.is_meta and output.shape == (2, 4, 4, 8)


def test_names_of_a_block(model):
    assert set(model.get_submodule(BLOCKS[0]).state_dict()) == {
        f"{layer}.{kind}"
        for layer in (
            "conv_in",
            "depthwise",
            "channel_attention.proj",
            "conv_out",
            "mlp_in",
            "mlp_out",
            "modulation",
        )
        for kind in ("weight", "bias")
    }
