"""What surrounds the kernels of local attention: arguments, choice, PyTorch's machinery."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import error, outputs_and_gradients, random
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from gensynth.errors import UsageError
from gensynth.models.layers.grid import Grid
from gensynth.models.layers.mixers.local import LocalAttention
from gensynth.ops import choice, local_attention
from gensynth.ops.local_attention import operator, refusal, why_slower
from gensynth.ops.local_attention.launches import LAUNCHES, candidates
from gensynth.ops.local_attention.specimens import SPECIMENS

SIZE = {"height": 4, "width": 6, "window": 3, "text_length": 2}


def qkv(dtype=torch.float32, device="cpu", head_dim=16, tokens=26):
    return [random(1, 2, tokens, head_dim, seed=i, dtype=dtype, device=device) for i in range(3)]


WRONG = {
    "q must be": ({"q": torch.zeros(2, 26, 16)}, {}),
    "k must share": ({"k": torch.zeros(1, 2, 26, 8)}, {}),
    "k must have the type of q, float32, got float16": (
        {"k": torch.zeros(1, 2, 26, 16).half()},
        {},
    ),
    "v must be on the device of q, cpu, got meta": (
        {"v": torch.zeros(1, 2, 26, 16, device="meta")},
        {},
    ),
    "v must have the width of q, 16, got 8": ({"v": torch.zeros(1, 2, 26, 8)}, {}),
    "window must be a whole number from 1, got 0": ({}, {"window": 0}),
    "window must be a whole number from 1, got 2.5": ({}, {"window": 2.5}),
    "height must be a whole number from 1, got 0": ({}, {"height": 0}),
    "text_length must be a whole number from 0, got -1": ({}, {"text_length": -1}),
    "q has 26 tokens, but text_length 2 . height 5 . width 6 is 32": ({}, {"height": 5}),
    "down_factor 4 must divide the height 4 and the width 6": ({}, {"down_factor": 4}),
    "down_factor must be a whole number from 1, got 0": ({}, {"down_factor": 0}),
    r"pool_weight must be \[2, 2\], got \[4\]": (
        {},
        {"down_factor": 2, "pool_weight": torch.zeros(4)},
    ),
    "pool_weight must be on the device of q": (
        {},
        {"down_factor": 2, "pool_weight": torch.zeros(2, 2, device="meta")},
    ),
}


@pytest.mark.parametrize("mode", ["triton", "reference"])
@pytest.mark.parametrize("message", WRONG)
def test_errors_are_those_of_both_paths(message, mode):
    tensors, options = WRONG[message]
    given = dict(zip("qkv", qkv(), strict=True)) | tensors
    with choice.use(mode), pytest.raises(UsageError, match=message):
        local_attention(*given.values(), **(SIZE | options))


def test_whole_numbers_only():
    zeros = torch.zeros(1, 1, 4, 8, dtype=torch.int64)
    with pytest.raises(UsageError, match=r"q must be of a floating type, got torch\.int64"):
        local_attention(zeros, zeros, zeros, height=2, width=2, window=1)


@pytest.mark.parametrize(
    "reason, dtype, device, head_dim",
    [
        ("head_dim 129 is above 128", torch.float32, "cpu", 129),
        ("the type is torch.float64, not float32, float16 or bfloat16", torch.float64, "cpu", 16),
        ("the device is meta", torch.float32, "meta", 16),
    ],
)
def test_refusals(reason, dtype, device, head_dim):
    q = torch.zeros(1, 2, 26, head_dim, dtype=dtype, device=device)
    assert refusal(q, q, q, **SIZE) == reason
    with choice.use("triton"), pytest.raises(UsageError, match=reason):
        local_attention(q, q, q, **SIZE)
    assert local_attention(q, q, q, **SIZE).shape == q.shape  # by the definition


@pytest.mark.parametrize(
    "height, width, window, reason",
    [
        (96, 95, 8, "the image is smaller than 96 x 96 tokens"),
        (96, 200, 32, "the window is a third of the image or more"),
        (96, 96, 31, "Triton's interpreter is for tests"),
    ],
)
def test_losses(height, width, window, reason):
    q = torch.zeros(1, 1, height * width, 8)
    assert why_slower(q, q, q, height=height, width=width, window=window) == reason


def test_the_kernel_runs_when_demanded(kernels, device, monkeypatch):
    calls = []
    forward = operator.attend_disc
    monkeypatch.setattr(operator, "attend_disc", lambda *x: calls.append(x) or forward(*x))
    local_attention(*qkv(device=device), **SIZE)
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_operator_is_registered_as_pytorch_wants(dtype, kernels, device):
    tensors = [random(1, 2, 12, 16, seed=i, dtype=dtype, device=device) for i in range(3)]
    tensors += [random(1, 2, 3, 16, seed=3 + i, dtype=dtype, device=device) for i in range(2)]
    leaves = [x.requires_grad_() for x in tensors]
    torch.library.opcheck(operator.disc_attention, (*leaves, 3, 4, 2, 0.3, True))
    with torch.no_grad():
        outputs = operator.disc_attention(*tensors, 3, 4, 2, 0.3, False)
        assert outputs[1].numel() == 0
        arguments = (outputs[0], *(x.detach() for x in tensors), *outputs, 3, 4, 2, 0.3)
        torch.library.opcheck(operator.disc_attention_backward, arguments)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_compiles_whole(mode, device):
    inputs = [*qkv(torch.float16, device), random(2, 2, seed=3, device=device)]
    grad = random(1, 2, 26, 16, seed=4, dtype=torch.float16, device=device)

    def function(q, k, v, weight):
        return local_attention(q, k, v, **SIZE, down_factor=2, pool_weight=weight, scale=0.3)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    with choice.use(mode):
        expected = outputs_and_gradients(function, inputs, [grad])
        actual = outputs_and_gradients(compiled, inputs, [grad])
        with torch.no_grad():
            assert torch.equal(compiled(*inputs), expected[0][0])
    for one, other in zip(actual[0] + actual[1], expected[0] + expected[1], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_autocast_casts_like_a_product(mode, device):
    inputs = qkv(device=device)
    weight = random(2, 2, seed=3, device=device)
    options = {**SIZE, "down_factor": 2, "pool_weight": weight}
    with choice.use(mode):
        with torch.autocast(device.type, torch.bfloat16):
            output = local_attention(*inputs, **options)
        expected = local_attention(*(x.bfloat16() for x in inputs), **options)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_nothing(reentrant, kernels, device):
    inputs, grad = qkv(torch.bfloat16, device), random(1, 2, 26, 16, seed=4, dtype=torch.bfloat16)

    def function(q, k, v):
        return local_attention(q, k, v, **SIZE)

    def checkpointed(*inputs):
        return checkpoint(function, *inputs, use_reentrant=reentrant)

    leaves = [[x.detach().requires_grad_() for x in inputs] for _ in range(2)]
    for one, call in zip(leaves, (function, checkpointed), strict=True):
        call(*one).backward(grad.to(device))
    for one, other in zip(*leaves, strict=True):
        assert torch.equal(one.grad, other.grad)


def test_gradient_of_some_inputs(kernels, device):
    q, k, v = qkv(device=device)
    outputs = []
    for mode in ("triton", "reference"):
        with choice.use(mode):
            leaf = v.clone().requires_grad_()
            outputs += torch.autograd.grad(local_attention(q, k, leaf, **SIZE).sum(), leaf)
    assert error(*outputs) < 1e-5


def test_second_derivatives(device):
    small = {"height": 2, "width": 3, "window": 2, "text_length": 1}
    inputs = [x.requires_grad_() for x in qkv(torch.float64, head_dim=2, tokens=7)]
    with choice.use("reference"), sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(lambda *x: local_attention(*x, **small), inputs)
    with choice.use("triton"):
        q, k, v = (x.requires_grad_() for x in qkv(device=device, head_dim=2, tokens=6))
        output = local_attention(q, k, v, height=2, width=3, window=2)
        first = torch.autograd.grad(output.square().sum(), q, create_graph=True)
        with pytest.raises(UsageError, match="no second derivative"):
            torch.autograd.grad(first[0].sum(), k)


@given(height=st.integers(1, 40), width=st.integers(1, 40), window=st.integers(1, 45))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_pieces_cover_the_image_once(height, width, window):
    from gensynth.ops.local_attention.reference import pieces

    for most in (1, 2, window, height * width):
        cover = torch.zeros(height, width, dtype=torch.int64)
        for part in pieces(height, width, most):
            assert cover[part].numel() <= most
            cover[part] += 1
        assert (cover == 1).all()


@pytest.mark.parametrize("mode", ["triton", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_mixer_leaves_tokens_out_under_autocast(dtype, mode, device):
    """Its coordinate of -1e9 is in float32, which autocast must not take away."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixer = LocalAttention(32, 2, window=3).to(device)
    kept = torch.tensor([[0, 3, 4, 7, 9, 14, 18, 20, 22, 23, 26, 29]], device=device)
    grid = Grid(5, 6, kept=kept)
    tokens = random(1, 12, 32, seed=0, device=device)
    with choice.use("reference"):
        expected = mixer(tokens, grid)
    with choice.use(mode):
        exact = mixer(tokens, grid)
        with torch.autocast(device.type, dtype):
            output = mixer(tokens, grid)
    torch.testing.assert_close(exact, expected, atol=1e-5, rtol=1e-5)
    assert output.isfinite().all()
    assert error(output, expected) < 1e-2


def test_specimens_use_every_launch(device):
    assert {key for specimen in SPECIMENS for key in specimen.keys} == set(LAUNCHES)
    assert all(
        LAUNCHES[key].blocks.keys() == c.blocks.keys() for key in LAUNCHES for c in candidates(key)
    )
    specimen = SPECIMENS[0]
    with choice.use("triton"):
        gradients = specimen.call(*specimen.inputs(device, False))
    assert all(gradient.isfinite().all() for gradient in gradients)
