"""residual + gate * (weight (scale * hidden) + bias): two forms of the same function."""

import pytest
import torch
import torch.nn.functional as F
from numerics import error, exact, outputs_and_gradients, random
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops import choice
from gensynth.ops.gated_projection import (
    folded,
    gated_projection,
    step_by_step,
    why_not_fold,
)


def arguments(
    batch: int, outer: int, inner: int, height: int, width: int, scaled: bool = True, **kind
) -> list[Tensor]:
    """residual, hidden, weight, bias, gate and, if `scaled`, scale; images channels-last."""
    residual, hidden = (
        random(batch, height, width, channels, seed=channels, **kind).permute(0, 3, 1, 2)
        for channels in (outer, inner)
    )
    weight = random(outer, inner, seed=3, **kind)[:, :, None, None] / inner**0.5
    bias, gate = random(outer, seed=4, **kind), random(batch, outer, seed=5, **kind) / 2
    rest = [random(batch, inner, seed=6, **kind).sigmoid()] if scaled else []
    return [residual, hidden, weight, bias, gate, *rest]


def in_steps(residual, hidden, weight, bias, gate, scale=None):
    if scale is not None:
        hidden = hidden * scale[:, :, None, None]
    return torch.addcmul(residual, gate[:, :, None, None], F.conv2d(hidden, weight, bias))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_same_bits_as_the_steps_where_a_gradient_is_needed(device, memory_format, scaled):
    inputs = arguments(2, 24, 40, 5, 7, scaled, device=device)
    inputs[:2] = (x.contiguous(memory_format=memory_format) for x in inputs[:2])
    weights = [random(2, 24, 5, 7, seed=9, device=device)]
    actual = outputs_and_gradients(gated_projection, inputs, weights)
    expected = outputs_and_gradients(in_steps, inputs, weights)
    for a, b in zip(sum(actual, ()), sum(expected, ()), strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride()


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [(2, 24, 24, 5, 7), (3, 128, 256, 16, 16)], ids=str)
def test_folding_loses_no_more_than_the_steps(device, sizes, dtype, scaled):
    inputs = arguments(*sizes, scaled, dtype=dtype, device=device)
    (right,), _ = exact(in_steps, inputs, [inputs[0]])
    scale = inputs[5] if scaled else None
    fold, steps = (f(*inputs[:5], scale) for f in (folded, step_by_step))
    assert fold.shape == steps.shape and fold.dtype == dtype
    assert fold.is_contiguous(memory_format=torch.channels_last)
    assert error(fold, right) <= 1.25 * error(steps, right)


def test_folding_leaves_its_arguments_alone(device):
    inputs = arguments(2, 8, 8, 3, 5, device=device)
    before = [x.clone() for x in inputs]
    folded(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_no_images(device):
    inputs = arguments(2, 8, 16, 3, 5, device=device)
    empty = [x[:0] if i in (0, 1, 4, 5) else x for i, x in enumerate(inputs)]
    assert folded(*empty).shape == gated_projection(*empty).shape == (0, 8, 3, 5)


def image(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    x = torch.zeros(1, channels, height, width, device=device)
    return x.contiguous(memory_format=torch.channels_last)


def test_not_folded_on_a_cpu():
    x = image(512, 64, 32, torch.device("cpu"))
    assert why_not_fold(x, x) == "the device is cpu"


@pytest.mark.gpu
def test_when_folding_does_not_pay(device):
    x, gate = image(512, 64, 32, device), torch.zeros(1, 512, device=device, requires_grad=True)
    assert why_not_fold(x, x, gate) == "a gradient is needed"
    with torch.no_grad():
        assert why_not_fold(x, x, gate) is None
    assert "not channels-last" in why_not_fold(x, x.contiguous())
    assert "not channels-last" in why_not_fold(x.contiguous(), x)
    assert "different types" in why_not_fold(x, x.bfloat16())
    part, few = image(512, 32, 32, device), image(8, 64, 64, device)
    assert why_not_fold(part, part) == "there are not twice as many positions as channels"
    assert why_not_fold(few, few) == "residual has fewer than 1048576 elements"


@pytest.mark.gpu
def test_folded_on_a_gpu_unless_definitions_are_asked_for(device):
    inputs = arguments(2, 256, 256, 64, 64, dtype=torch.bfloat16, device=device)
    assert why_not_fold(*inputs) is None
    assert torch.equal(gated_projection(*inputs), folded(*inputs))
    with choice.use("reference"):
        assert torch.equal(gated_projection(*inputs), step_by_step(*inputs))
    (right,), _ = exact(in_steps, inputs, [inputs[0]])
    assert error(folded(*inputs), right) <= 1.25 * error(step_by_step(*inputs), right)


@pytest.mark.parametrize("function", [gated_projection, folded], ids=["chosen", "folded"])
def test_compiled(device, function):
    inputs = arguments(2, 24, 40, 5, 7, device=device)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(*inputs), function(*inputs))


def test_autocast_keeps_a_wider_residual(device):
    residual, *rest = arguments(2, 24, 40, 5, 7, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        output = gated_projection(residual, *rest)
    assert output.dtype == torch.float32
    assert torch.equal(output, in_steps(residual, *(x.bfloat16() for x in rest)))


def test_meta():
    inputs = [x.to("meta") for x in arguments(2, 24, 40, 5, 7)]
    output = gated_projection(*inputs)
    assert output.is_meta and output.shape == (2, 24, 5, 7)


@pytest.mark.parametrize(
    "name, tensor, message",
    [
        ("residual", torch.zeros(2, 3, 4), r"residual must be \[B, C, H, W\], got .*\[2, 3, 4\]"),
        ("hidden", torch.zeros(2, 3), r"hidden must be \[B, C, H, W\], got shape \[2, 3\]"),
        ("hidden", torch.zeros(2, 6, 4, 1), r"hidden must be \[2, 6, 4, 5\] .*\[2, 6, 4, 1\]"),
        ("weight", torch.zeros(6, 3, 1, 1), r"weight must be \[3, 6, 1, 1\] .*\[6, 3, 1, 1\]"),
        ("bias", torch.zeros(6), r"bias must be \[3\] for residual \[2, 3, 4, 5\] .*got \[6\]"),
        ("gate", torch.zeros(1, 3), r"gate must be \[2, 3\] .*got \[1, 3\]"),
        ("scale", torch.zeros(2, 3), r"scale must be \[2, 6\] .*got \[2, 3\]"),
        ("gate", torch.zeros(2, 3).half(), "gate must have the type of hidden, float32"),
        ("scale", torch.zeros(2, 6, device="meta"), "scale must be on the device of hidden, cpu"),
        ("residual", torch.zeros(2, 3, 4, 5, device="meta"), "residual must be on the device of"),
    ],
)
def test_errors(name, tensor, message):
    names = ("residual", "hidden", "weight", "bias", "gate", "scale")
    inputs = dict(zip(names, arguments(2, 3, 6, 4, 5), strict=True))
    with pytest.raises(UsageError, match=message):
        gated_projection(**{**inputs, name: tensor})
