"""Kernels of circular local attention against its definition with a mask of all pairs."""

import pytest
import torch
from dense_attention import dense
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import GATES, error, exact, outputs_and_gradients, random

from gensynth.ops import choice, local_attention

SIZES = {
    "text": {
        "height": 9,
        "width": 20,
        "window": 4,
        "text_length": 5,
        "heads": 1,
        "head_dim": 32,
    },
    "image alone, two samples": {
        "height": 9,
        "width": 7,
        "window": 3,
        "batch": 2,
        "head_dim": 40,
    },
    "pooled, window beyond the image": {
        "height": 8,
        "width": 12,
        "window": 30,
        "text_length": 3,
        "down_factor": 4,
        "weighted": True,
        "head_dim": 72,
    },
    "one token": {"height": 1, "width": 1, "window": 1, "head_dim": 8},
    "itself and text": {"height": 3, "width": 18, "window": 1, "text_length": 70, "head_dim": 16},
}


def case(
    dtype=torch.float32,
    device="cpu",
    *,
    batch=1,
    heads=2,
    head_dim=16,
    weighted=False,
    seed=0,
    **options,
):
    """Inputs, the weight of the output in a loss, and the other arguments."""
    tokens = options.get("text_length", 0) + options["height"] * options["width"]
    shape = (batch, heads, tokens, head_dim)
    inputs = [random(*shape, seed=seed + i, dtype=dtype, device=device) for i in range(3)]
    if weighted:
        side = options["down_factor"]
        inputs.append(random(side, side, seed=seed + 3, device=device) / side**2)
    return inputs, random(*shape, seed=seed + 4, dtype=dtype, device=device), options


def run(inputs, options):
    q, k, v, *weight = inputs
    return local_attention(q, k, v, pool_weight=weight[0] if weight else None, **options)


def check(inputs, grad, options):
    """Output and gradients of the kernel are as near to the dense definition as they must be."""
    (expected,), expected_gradients = exact(lambda *x: dense(*x, **options), inputs, [grad])
    (actual,), gradients = outputs_and_gradients(lambda *x: run(x, options), inputs, [grad])
    forward, backward = GATES[inputs[0].dtype]
    assert actual.dtype == inputs[0].dtype
    assert error(actual, expected) <= forward
    for name, one, other in zip("qkvw", gradients, expected_gradients, strict=False):
        if other.norm() > 1e-9 * grad.double().norm():  # a query that sees one key has no gradient
            assert error(one, other) <= backward, name
        else:
            assert one.double().norm() <= backward * grad.double().norm(), name


@pytest.mark.parametrize("dtype", GATES, ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_kernel_is_the_definition(name, dtype, kernels, poisoned, device):
    check(*case(dtype, device, **SIZES[name]))


@pytest.mark.parametrize("dtype", GATES, ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_reference_is_the_definition(name, dtype, device):
    with choice.use("reference"):
        check(*case(dtype, device, **SIZES[name]))


def test_reference_keeps_float64():
    inputs, _, options = case(torch.float64, **SIZES["pooled, window beyond the image"])
    with choice.use("reference"):
        assert error(run(inputs, options), dense(*inputs, **options)) < 1e-14


@pytest.mark.parametrize("head_dim", [8, 16, 24, 64, 65, 80, 96, 127, 128])
def test_widths_of_heads(head_dim, kernels, poisoned, device):
    sizes = {"height": 5, "width": 10, "window": 3, "text_length": 2}
    check(*case(torch.float16, device, head_dim=head_dim, heads=1, **sizes))
    if head_dim in (8, 128):
        check(*case(torch.float32, device, head_dim=head_dim, heads=1, **sizes))


@pytest.mark.slow
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 9),
    window=st.integers(1, 7),
    text_length=st.integers(0, 5),
    side=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_size(height, width, window, text_length, side, seed):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {
        "height": height * side,
        "width": width * side,
        "window": window,
        "text_length": text_length,
        "down_factor": side,
        "weighted": side == 2,
    }
    with choice.use("triton"):
        check(*case(device=device, heads=1, seed=seed, **options))


def test_tiles_wholly_in_the_disc(kernels, device):
    """They take no mask; with a window this large there are some, and others beside."""
    check(*case(torch.float16, device, height=8, width=24, window=18, heads=1))


def test_strided_inputs(kernels, device):
    """Heads split from one projection, rows that do not lie together, an expanded gradient."""
    options = {"height": 6, "width": 9, "window": 3, "text_length": 4}
    half = torch.float16
    projected = random(2, 58, 3 * 2 * 16, seed=0, dtype=half, device=device)
    qkv = projected.view(2, 58, 3, 2, 16).permute(2, 0, 3, 1, 4)
    apart = random(2, 2, 16, 58, seed=1, dtype=half, device=device).transpose(2, 3)
    for inputs in (list(qkv), [qkv[0], apart, qkv[2]]):
        check(inputs, torch.ones((), dtype=half, device=device).expand(2, 2, 58, 16), options)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_empty(shape, kernels, device):
    q = torch.zeros(*shape, 20, 8, device=device, requires_grad=True)
    output = local_attention(q, q, q, height=4, width=4, window=2, text_length=4)
    assert output.shape == q.shape
    assert torch.autograd.grad(output.sum(), q)[0].shape == q.shape


@pytest.mark.parametrize("scale", [0.0, -0.7, 5.0, 2])
@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_scale(scale, mode, device):
    inputs, grad, options = case(device=device, height=5, width=6, window=3, text_length=3)
    with choice.use(mode):
        check(inputs, grad, {**options, "scale": scale})


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # of weights that are masked
@pytest.mark.parametrize("dtype", GATES, ids=str)
def test_extreme_scores(dtype, kernels, poisoned, device):
    """Scores of thousands: each query attends to one key, and nothing overflows."""
    (q, k, v), grad, options = case(dtype, device, height=6, width=12, window=4, text_length=3)
    (actual,), gradients = outputs_and_gradients(
        lambda *x: run(x, options), (60 * q, 60 * k, 100 * v), (grad,)
    )
    expected = dense((60 * q).double(), (60 * k).double(), (100 * v).double(), **options)
    assert error(actual, expected) <= GATES[dtype][0]
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # of tokens beyond the image
def test_keys_that_must_not_be_seen(kernels, device):
    """A coordinate of -1e9 hides a key exactly, also from queries that see nothing else there."""
    (q, k, v), grad, options = case(device=device, height=6, width=12, window=3, head_dim=15)
    hidden = torch.arange(72, device=device).view(1, 1, 72, 1) % 12 < 4
    q, v, grad = (torch.nn.functional.pad(x, (0, 1)) for x in (q, v, grad))
    q[..., -1] = 1
    k = torch.cat([k, torch.where(hidden, -1e9, 0.0).expand(1, 2, -1, -1)], dim=-1)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    output = run(leaves, options)
    visible = ~hidden.flatten()
    seen = output[:, :, visible]
    gradients = torch.autograd.grad((seen * grad[:, :, visible]).sum(), leaves)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[1][:, :, ~visible].any() and not gradients[2][:, :, ~visible].any()
    with torch.no_grad():
        changed = torch.where(hidden, 1e3, v)
        torch.testing.assert_close(run([q, k, changed], options)[:, :, visible], seen)
    expected = dense(*(x.double() for x in leaves), **options)[:, :, visible]
    assert error(seen, expected) <= 1e-5


@pytest.mark.slow
def test_runs_are_alike_whatever_the_batch(kernels, device, monkeypatch):
    """Also where gradients are sums of parts, each of fewer queries than in use."""
    from gensynth.ops.local_attention import triton_backward

    monkeypatch.setattr(triton_backward, "QUERIES_OF_PART", 128)
    assert triton_backward.parts_of(17 * 16, 19) == (3, 128)
    sizes = {"height": 17, "width": 16, "window": 2, "text_length": 19}
    inputs, grad, options = case(torch.float16, device, batch=2, heads=1, **sizes)
    check(inputs, grad, options)
    calls = [
        outputs_and_gradients(lambda *x: run(x, options), inputs, [grad]),
        outputs_and_gradients(lambda *x: run(x, options), inputs, [grad]),
        outputs_and_gradients(lambda *x: run(x, options), [x[1:] for x in inputs], [grad[1:]]),
    ]
    first, second, alone = ([*outputs, *gradients] for outputs, gradients in calls)
    for one, other, single in zip(first, second, alone, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one[1:], single)


def masked(q, k, v, seen):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head_dim", [64, 72, 128])
def test_no_worse_than_pytorch(head_dim, dtype, kernels, device):
    inputs, grad, options = case(
        dtype, device, height=64, width=48, window=12, text_length=77, head_dim=head_dim
    )
    tokens = torch.arange(64 * 48, device=device)
    y, x = tokens // 48, tokens % 48
    seen = torch.ones(2 * [77 + 64 * 48], dtype=torch.bool, device=device)
    seen[77:, 77:] = (y[:, None] - y).square() + (x[:, None] - x).square() < 12**2
    expected = exact(lambda *x: dense(*x, **options), inputs, [grad])
    ours = outputs_and_gradients(lambda *x: run(x, options), inputs, [grad])
    plain = outputs_and_gradients(lambda *x: masked(*x, seen), inputs, [grad])
    found = [outputs + gradients for outputs, gradients in (ours, plain, expected)]
    for one, other, right in zip(*found, strict=True):
        assert error(one, right) <= 1.25 * error(other, right)


@pytest.mark.gpu
def test_tensors_of_more_than_31_bits(kernels, device):
    """24 heads of 128 channels of 840 x 840 tokens: the last head is what it is alone."""
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("needs 20 GB of the GPU's memory")
    generator = torch.Generator(device).manual_seed(0)
    shape = (1, 24, 840 * 840, 128)
    q = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)
    assert q.numel() > 2**31
    whole = local_attention(q, q, q, height=840, width=840, window=4)
    last = q[:, -1:]
    alone = local_attention(last, last, last, height=840, width=840, window=4)
    assert torch.equal(whole[:, -1:], alone)
