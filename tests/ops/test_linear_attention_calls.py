"""Linear attention as PyTorch sees it: strides, compilation, autocast, refusals, repetition."""

import pytest
import torch
from numerics import error, outputs_and_gradients, random
from torch.utils.checkpoint import checkpoint

from gensynth.errors import UsageError
from gensynth.ops import choice, launches, linear_attention
from gensynth.ops.linear_attention import refusal, why_slower
from gensynth.ops.linear_attention.launches import LAUNCHES, candidates
from gensynth.ops.linear_attention.operator import forward_operator, state_operator
from gensynth.ops.linear_attention.reference import reference
from gensynth.ops.linear_attention.specimens import SPECIMENS

pytestmark = pytest.mark.skipif(not choice.HAS_TRITON, reason="Triton is not installed")


def make(device, batch=2, heads=2, tokens=70, width=16, dtype=torch.float32):
    shape = batch, heads, tokens, width
    return [random(*shape, seed=seed, dtype=dtype, device=device) for seed in range(4)]


def run(q, k, v, weight):
    (out,), gradients = outputs_and_gradients(linear_attention, (q, k, v), [weight])
    return out, *gradients


@pytest.mark.slow
def test_runs_the_same_twice_and_in_any_batch(device, kernels):
    tensors = make(device, batch=3, heads=1, tokens=300)
    whole = run(*tensors)
    assert all(map(torch.equal, whole, run(*tensors)))
    for index in range(3):
        alone = run(*(x[index : index + 1].clone() for x in tensors))
        assert all(torch.equal(a, b[index : index + 1]) for a, b in zip(alone, whole, strict=True))


def test_reads_heads_of_a_projection_in_place(device, kernels):
    """And returns heads that merge without a copy."""
    tensors = make(device)
    split = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    out, *gradients = run(*split)
    expected = run(*tensors)
    assert all(map(torch.equal, (out, *gradients), expected))
    for x in (linear_attention(*split[:3]), *gradients):
        assert x.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("change", [
    lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    lambda x: torch.cat([x, x], dim=-1)[..., 3 : 3 + x.shape[-1]],
    lambda x: torch.cat([x, x], dim=2)[:, :, ::2],
    lambda x: x[:1].expand(2, -1, -1, -1),
])  # fmt: skip
def test_strides(device, kernels, change):
    tensors = [change(x) for x in make(device)]
    assert all(map(torch.equal, run(*tensors), run(*(x.contiguous() for x in tensors))))


def test_gradient_of_a_sum(device, kernels):
    q, k, v, _ = make(device)
    q.requires_grad_()
    (ours,) = torch.autograd.grad(linear_attention(q, k, v).sum(), q)
    (theirs,) = torch.autograd.grad(reference(q.double(), k.double(), v.double()).sum(), q)
    # The weights of a query sum to nearly 1, so this gradient is nearly 0.
    assert float((ours - theirs).abs().max()) < 1e-6


@pytest.mark.parametrize("shape", [(0, 2, 5, 8), (2, 0, 5, 8)])
def test_empty(device, kernels, shape):
    results = run(*(torch.zeros(shape, device=device) for _ in range(4)))
    assert all(x.shape == shape for x in results)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_no_queries(device, mode):
    _, k, v, _ = make(device)
    q, weight = k[:, :, :0], v[:, :, :0]
    with choice.use(mode):
        out, *gradients = run(q, k, v, weight)
    assert out.shape == q.shape and all(not x.any() for x in gradients)


def test_opcheck(device):
    q, k, v, _ = make(device, batch=1, tokens=20)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    torch.library.opcheck(forward_operator, (*leaves, "elu1", 1e-4))
    torch.library.opcheck(state_operator, (k.detach(), v.detach(), 20, "relu"))


def test_compiles_whole(device, kernels):
    q, k, v, weight = make(device, tokens=40)
    compiled = torch.compile(linear_attention, fullgraph=True, backend="aot_eager")
    (out,), gradients = outputs_and_gradients(compiled, (q, k, v), [weight])
    assert all(map(torch.equal, (out, *gradients), run(q, k, v, weight)))


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_autocast(device, mode):
    q, k, v, weight = make(device)
    with choice.use(mode), torch.autocast(device.type, torch.bfloat16):
        out = linear_attention(q.requires_grad_(), k, v.bfloat16())
        (gradient,) = torch.autograd.grad(out, q, weight.bfloat16())
    assert out.dtype == torch.bfloat16 and gradient.dtype == torch.float32
    assert error(out, reference(q, k, v)) < 1e-2


def test_checkpointing(device, kernels):
    q, k, v, weight = make(device)
    function = lambda *x: checkpoint(linear_attention, *x, use_reentrant=False)  # noqa: E731
    (out,), gradients = outputs_and_gradients(function, (q, k, v), [weight])
    assert all(map(torch.equal, (out, *gradients), run(q, k, v, weight)))


def test_a_second_derivative_is_an_error(device, kernels):
    q, k, v, _ = make(device)
    q.requires_grad_()
    (first,) = torch.autograd.grad(linear_attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(
        UsageError, match=r"no second derivative\. The definitions, GENSYNTH_OPS=reference"
    ):
        torch.autograd.grad(first.sum(), q)


BAD = {
    "unknown feature 'gelu'; known: elu1, relu, identity": {"feature": "gelu"},
    r"q must be \[B, H, N, D\], got shape \[5, 8\]": {"q": torch.zeros(5, 8)},
    r"k must share batch, heads and width with q": {"k": torch.zeros(1, 3, 5, 8)},
    r"v must share batch, heads and length with k": {"v": torch.zeros(1, 2, 6, 8)},
    "v must have the type of q, float32, got float16": {"v": torch.zeros(1, 2, 5, 8).half()},
    "k must be on the device of q": {"k": torch.zeros(1, 2, 5, 8, device="meta")},
    r"k must have at least one token": {name: torch.zeros(1, 2, 0, 8) for name in "kv"},
}


@pytest.mark.parametrize("mode", ["triton", "reference"])
@pytest.mark.parametrize("message", BAD)
def test_errors_are_those_of_the_definition(message, mode):
    arguments = {name: torch.zeros(1, 2, 5, 8) for name in "qkv"} | BAD[message]
    with choice.use(mode), pytest.raises(UsageError, match=message):
        linear_attention(**arguments)


def test_refusals(device):
    x = torch.zeros(1, 1, 4, 8, device=device)
    wide = torch.zeros(1, 1, 4, 320, device=device)
    assert refusal(x, x, x) is None
    assert "rotate is given" in refusal(x, x, x, rotate=lambda f: f)
    assert "head_dim 320" in refusal(wide, wide, x)
    assert "320" in refusal(x, x, wide)
    assert "float16" in refusal(x.half(), x.half(), x.half(), feature="identity")
    assert "float64" in refusal(x.double(), x.double(), x.double())
    assert "meta" in refusal(*(x.to("meta"),) * 3)
    with choice.use("triton"), pytest.raises(UsageError, match="head_dim 320"):
        linear_attention(wide, wide, x)
    with choice.use("auto"):
        assert linear_attention(wide, wide, x).shape == x.shape


def test_losses():
    x = torch.zeros(1, 1, 512, 8)
    assert why_slower(x, x, x) == "there are fewer than 1,024 tokens"
    assert "not multiples of 8" in why_slower(*(torch.zeros(1, 1, 1024, 9),) * 3)
    assert "interpreter" in why_slower(*(torch.zeros(1, 1, 1024, 8),) * 3)


def test_meta_tensors_have_the_shape_of_the_output():
    q, k, v = (torch.zeros(2, 3, 5, width, device="meta") for width in (8, 8, 4))
    assert linear_attention(q, k, v).shape == (2, 3, 5, 4)


def test_the_definition_rotates_the_numerator_only():
    q, k, v, _ = make("cpu")
    turned = linear_attention(q, k, v, rotate=lambda features: 2 * features)
    assert error(turned, 4 * linear_attention(q, k, v)) < 1e-6


def test_specimens_cover_every_launch():
    assert {key for specimen in SPECIMENS for key in specimen.keys} == set(LAUNCHES)
    assert all(found for found in map(candidates, LAUNCHES))


def test_specimens_run_and_use_their_launches(device, monkeypatch):
    used = set()
    find = launches.find
    monkeypatch.setattr(launches, "find", lambda *a: used.add(a[2]) or find(*a))
    for specimen in SPECIMENS:
        used.clear()
        specimen.call(*specimen.inputs(device, False))
        assert used == set(specimen.keys), specimen.label


@pytest.mark.parametrize("key", ["state d32 32bit", "output d32 32bit", "key gradient d32 32bit"])
def test_tuned_launches_give_the_same_within_rounding(device, kernels, key):
    tensors = make(device, batch=1, heads=1, tokens=70)
    shipped = run(*tensors)
    for launch in candidates(key)[::6]:
        with launches.trying("linear_attention", key, launch):
            for a, b in zip(run(*tensors), shipped, strict=True):
                assert error(a, b) < 1e-5
