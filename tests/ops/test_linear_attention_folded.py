"""The projection folded into the state of linear attention."""

import pytest
import torch
import torch.nn.functional as F
from numerics import error, random

from gensynth.errors import UsageError
from gensynth.ops import choice, linear_attention
from gensynth.ops.linear_attention.folded import linear_attention_folded


def make(device, dtype, width, tokens=40, heads=2):
    q, k, v = (
        random(2, heads, tokens, width, seed=seed, dtype=dtype, device=device) for seed in range(3)
    )
    weight = random(24, heads * width, seed=3, dtype=dtype, device=device) / width
    return q, k, v, weight, random(24, seed=4, dtype=dtype, device=device)


def two_steps(q, k, v, weight, bias, **options):
    return F.linear(linear_attention(q, k, v, **options).transpose(1, 2).flatten(2), weight, bias)


@pytest.mark.parametrize("mode", ["reference", "triton"])
@pytest.mark.parametrize("width", [8, 16, 32, 40, 64, 72, 80, 96, 128, 160, 256])
def test_is_attention_then_projection(device, mode, width):
    inputs = make(device, torch.float32, width)
    with choice.use("reference"):
        expected = two_steps(*(x.double() for x in inputs))
    with choice.use(mode):
        found = linear_attention_folded(*inputs)
    assert found.shape == (2, 40, 24) and error(found, expected) < 1e-5


@pytest.mark.parametrize("feature", ["relu", "identity"])
@pytest.mark.parametrize("mode", ["reference", "triton"])
def test_features_and_other_lengths(device, mode, feature):
    q, k, v, weight, _ = make(device, torch.float32, 16)
    q, k, v = q.abs(), k.abs()[:, :, :30], v[:, :, :30]
    options = {"feature": feature, "eps": 1e-2}
    with choice.use(mode):
        found = linear_attention_folded(q, k, v, weight, **options)
        assert error(found, two_steps(q, k, v, weight, None, **options)) < 1e-5


@pytest.mark.parametrize("width", [16, 64, 160])
def test_bfloat16_is_hardly_worse_than_two_steps(device, width):
    inputs = make(device, torch.bfloat16, width, tokens=600)
    with choice.use("reference"):
        truth = two_steps(*(x.double() for x in inputs))
        found, other = linear_attention_folded(*inputs), two_steps(*inputs)
    assert found.dtype == torch.bfloat16
    assert error(found, truth) <= 1.25 * error(other, truth)


def test_a_weight_of_another_width_is_refused():
    q, k, v, weight, _ = make("cpu", torch.float32, 8)
    with pytest.raises(UsageError, match=r"weight must be \[C, 16\] for 2 heads of 8, got"):
        linear_attention_folded(q, k, v, weight[:, :-1])
