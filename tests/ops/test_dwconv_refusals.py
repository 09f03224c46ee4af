"""What depthwise convolution, GELU and channel means refuse, and where kernels do not run."""

import pytest
import torch
from numerics import random

from gensynth.errors import UsageError
from gensynth.ops import choice
from gensynth.ops.dwconv_gelu_pool import dwconv_gelu_pool, refusal, why_slower


@pytest.mark.parametrize("mode", ["triton", "reference"])
@pytest.mark.parametrize(
    "changed, message",
    [
        ({"x": torch.zeros(3, 4, 5)}, r"x must be \[B, C, H, W\].*got shape \[3, 4, 5\]"),
        ({"x": torch.zeros(1, 3, 0, 5)}, r"C, H and W from 1, got shape \[1, 3, 0, 5\]"),
        ({"x": torch.zeros(1, 3, 4, 5, dtype=torch.int64)}, "x must be of a floating type"),
        ({"weight": torch.zeros(3, 3, 3, 3)}, r"weight must be \[3, 1, 3, 3\] .*\[3, 3, 3, 3\]"),
        ({"bias": torch.zeros(4)}, r"bias must be \[3\] for x \[1, 3, 4, 5\], got \[4\]"),
        ({"bias": torch.zeros(3).half()}, "bias must have the type of x, float32, got float16"),
        ({"weight": torch.zeros(3, 1, 3, 3, device="meta")}, "weight must be on the device of x"),
        ({"approximate": "fast"}, "approximate must be one of none, tanh, got 'fast'"),
    ],
)
def test_errors(mode, changed, message):
    right = {"x": torch.zeros(1, 3, 4, 5), "weight": torch.zeros(3, 1, 3, 3)}
    with choice.use(mode), pytest.raises(UsageError, match=message):
        dwconv_gelu_pool(**{**right, "bias": torch.zeros(3), **changed})


def test_refusals(kernels, device):
    x = random(1, 4, 9, 20, seed=1, device=device).permute(0, 3, 1, 2)
    weight, bias = torch.ones(20, 1, 3, 3, device=device), torch.ones(20, device=device)
    assert refusal(x, weight, bias) is None
    inputs = (x.contiguous(), weight, bias)
    assert refusal(*inputs) == "x is not channels-last"
    with pytest.raises(UsageError, match="dwconv_gelu_pool cannot run: x is not channels-last"):
        dwconv_gelu_pool(*inputs)
    assert "float64" in refusal(*(tensor.double() for tensor in (x, weight, bias)))
    meta = [tensor.to("meta") for tensor in (x, weight, bias)]
    assert refusal(*meta) == "the device is meta"
    with choice.use("reference"):
        expected, _ = dwconv_gelu_pool(*inputs)
    with choice.use("auto"):
        assert torch.equal(dwconv_gelu_pool(*inputs)[0], expected)
        y, mean = dwconv_gelu_pool(*meta)
    assert y.is_meta and y.shape == x.shape and mean.shape == (1, 20)


def test_losses():
    weight, bias = torch.zeros(64, 1, 3, 3), torch.zeros(64)
    small, large = (torch.zeros(1, 64, side, 128) for side in (127, 128))
    assert why_slower(small, weight, bias) == "x has fewer than 1048576 elements"
    assert why_slower(large, weight, bias) == "Triton's interpreter is for tests"
