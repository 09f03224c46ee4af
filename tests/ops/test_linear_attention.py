"""The kernels of linear attention against their definition in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import GATES, error, exact, outputs_and_gradients, random

from gensynth.ops import choice, linear_attention
from gensynth.ops.linear_attention.operator import SHORTEST_SPAN, span_of
from gensynth.ops.linear_attention.reference import reference

DTYPES = list(GATES)
pytestmark = pytest.mark.skipif(not choice.HAS_TRITON, reason="Triton is not installed")


def make(device, dtype, batch=1, heads=2, queries=70, keys=70, width=16, values=None, feature=""):
    values = width if values is None else values
    shapes = (queries, width), (keys, width), (keys, values), (queries, values)
    q, k, v, weight = (
        random(batch, heads, *shape, seed=seed, dtype=dtype, device=device)
        for seed, shape in enumerate(shapes)
    )
    return (q.abs(), k.abs(), v, weight) if feature == "identity" else (q, k, v, weight)


def check(inputs, feature="elu1", eps=1e-4):
    """Output and gradients within the gates, and hardly worse than plain PyTorch."""
    *inputs, weight = inputs
    definition = lambda *x: reference(*x, feature=feature, eps=eps)  # noqa: E731
    truth = exact(definition, inputs, [weight])
    with choice.use("triton"):
        found = outputs_and_gradients(
            lambda *x: linear_attention(*x, feature=feature, eps=eps), inputs, [weight]
        )
    plain = outputs_and_gradients(definition, inputs, [weight])
    for part in range(2):
        gate = GATES[inputs[0].dtype][part]
        for name, *tensors in zip("qkv", found[part], plain[part], truth[part], strict=False):
            mine, other = (error(x, tensors[2]) for x in tensors[:2])
            assert mine <= gate, (part, name, mine)
            # The interpreter cuts float32 off to bfloat16 instead of rounding it.
            if not (choice.INTERPRETING and inputs[0].dtype == torch.bfloat16):
                assert mine <= max(1.25 * other, 1e-6), (part, name, mine, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("feature", ["elu1", "relu", "identity"])
def test_agrees_with_float64(device, dtype, feature, poisoned):
    if feature == "identity" and dtype == torch.float16:
        pytest.skip("refused: see test_linear_attention_calls.py")
    check(make(device, dtype, heads=1, queries=300, keys=300, width=64, feature=feature), feature)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [8, 16, 32, 40, 72, 80, 96, 128])
def test_head_dims(device, dtype, width, poisoned):
    check(make(device, dtype, heads=1, queries=45, keys=33, width=width))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "width, values",
    [(160, 160), pytest.param(256, 256, marks=pytest.mark.slow), (24, 200), (200, 24)],
)
def test_wide_heads_in_tiles(device, dtype, width, values, poisoned):
    check(make(device, dtype, heads=1, queries=20, keys=18, width=width, values=values))


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_spans(device, dtype, poisoned):
    tokens = 2 * SHORTEST_SPAN + 3
    check(make(device, dtype, heads=1, queries=tokens, keys=tokens - 1))


@pytest.mark.slow
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["elu1", "relu", "identity"]),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_shape(batch, heads, queries, keys, width, values, feature):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = {"batch": batch, "heads": heads, "queries": queries, "keys": keys}
    # eps bounds the normaliser of a query that has none of the features.
    check(make(device, torch.float32, **shape, width=width, values=values, feature=feature),
          feature, eps=1.0)  # fmt: skip


def test_long_sequences_have_a_bounded_number_of_spans():
    for tokens in (1, 256, 257, 16384, 16385, 1_000_003):
        assert -(-tokens // span_of(tokens)) <= 64 and span_of(tokens) % 128 == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_differences_of_large_values(device, dtype):
    """The gradient of q comes from how values differ, not from their mean."""
    q, k, v, weight = make(device, dtype, heads=1, queries=600, keys=600, width=32)
    check((q, k, v + 8, weight))


@pytest.mark.parametrize("scale", [100.0, 2000.0])
def test_float16_does_not_overflow(device, scale):
    q, k, v, weight = make(device, torch.float16, queries=100, keys=100, width=32)
    check((q * 100, k * scale, v * scale, weight * 1e-2))


def test_queries_and_keys_far_below_zero(device):
    """φ is the exponential there: the normaliser is eps, and nothing is infinite."""
    q, k, v, _ = make(device, torch.float32)
    with choice.use("triton"):
        (out,), gradients = outputs_and_gradients(
            linear_attention, (q - 200, k - 200, v), [torch.ones_like(v)]
        )
    assert out.abs().max() == 0 and all(x.isfinite().all() for x in gradients)


def test_keys_that_have_no_feature(device):
    """With ReLU a feature may be 0 for all keys; its mean is then 0 too."""
    q, k, v, weight = make(device, torch.float32)
    k = k.abs()
    k[..., 3:7] = -1.0
    check((q.abs(), k, v, weight), "relu")


@pytest.mark.parametrize("feature", ["elu1", "relu"])
def test_nan_is_not_hidden(device, feature):
    q, k, v, _ = make(device, torch.float32)
    q[0, 0, 5, 3] = float("nan")
    k[0, 1, 7, 2] = float("nan")
    with choice.use("triton"):
        out = linear_attention(q, k, v, feature=feature)
    assert out[0, 0, 5].isnan().all() and out[0, 1].isnan().all()
    assert out[0, 0, :5].isfinite().all() and out[0, 0, 6:].isfinite().all()
