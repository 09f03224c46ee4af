"""Depthwise convolution, GELU and channel means: the kernels against their definition."""

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import GATES, error, exact, outputs_and_gradients, random
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gensynth.errors import UsageError
from gensynth.ops import choice, launches
from gensynth.ops.dwconv_gelu_pool import dwconv_gelu_pool, operator
from gensynth.ops.dwconv_gelu_pool.launches import LAUNCHES, candidates
from gensynth.ops.dwconv_gelu_pool.specimens import SPECIMENS

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
FORMS = ["none", "tanh"]


def image(*shape: int, seed: int, dtype=torch.float32, device="cpu") -> Tensor:
    """[B, C, H, W], channels-last, around a mean of each channel's own."""
    batch, channels, height, width = shape
    return random(batch, height, width, channels, seed=seed, dtype=dtype, device=device).permute(
        0, 3, 1, 2
    )


def arguments(*shape: int, dtype=torch.float32, device="cpu") -> tuple[list[Tensor], list[Tensor]]:
    """x, weight and bias; gradients of y and of the means, which count as much."""
    batch, channels, height, width = shape
    weight = random(3, 3, 1, channels, seed=2, device=device).permute(3, 2, 0, 1) / 3
    bias = random(channels, seed=3, dtype=dtype, device=device)
    dmean = random(batch, channels, seed=5, device=device) * (height * width) ** 0.5
    x, dy = (image(*shape, seed=seed, dtype=dtype, device=device) for seed in (1, 4))
    return [x, weight.to(dtype), bias], [dy, dmean.to(dtype)]


def definition(x: Tensor, weight: Tensor, bias: Tensor, approximate="none"):
    with choice.use("reference"):
        return dwconv_gelu_pool(x, weight, bias, approximate=approximate)


def check(shape: tuple[int, ...], dtype: torch.dtype, approximate: str, device) -> None:
    inputs, weights = arguments(*shape, dtype=dtype, device=device)
    outputs, gradients = outputs_and_gradients(
        lambda *x: dwconv_gelu_pool(*x, approximate=approximate), inputs, weights
    )
    expected = exact(lambda *x: definition(*x, approximate), inputs, weights)
    for actual, right, gate in zip((outputs, gradients), expected, GATES[dtype], strict=True):
        for a, b in zip(actual, right, strict=True):
            assert a.dtype == dtype and a.shape == b.shape
            assert error(a, b) < gate
    assert outputs[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 40, 5, 7), pytest.param((1, 70, 9, 17), marks=pytest.mark.slow)], ids=str
)
def test_outputs_and_gradients(kernels, poisoned, device, shape, dtype, approximate):
    check(shape, dtype, approximate, device)


@pytest.mark.parametrize(
    "shape",
    [
        *[(1, 1, 1, 1), (2, 3, 1, 9), (1, 5, 10, 1), (1, 70, 8, 8)],
        pytest.param((1, 3, 43, 97), marks=pytest.mark.slow),
    ],
    ids=str,  # one position; one row; one column; several blocks of channels; long bands
)
def test_shapes(kernels, poisoned, device, shape):
    check(shape, torch.float32, "none", device)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 18), st.integers(1, 18))
)
def test_any_shape(shape):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with choice.use("triton"):
        check(shape, torch.float32, "none", device)


@pytest.mark.parametrize("approximate", FORMS)
def test_gelu_of_every_size(kernels, device, approximate):
    """From tails that vanish to sums that must not overflow on the way."""
    far = torch.tensor([30.0, 100.0, 1e4, 1e9, 3e18, 0.0])
    u = torch.cat([torch.linspace(-12, 12, 1012), far, -far]).view(1, 8, 8, 16)
    u = u.to(device).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(8, 1, 3, 3, device=device)
    weight[:, :, 1, 1] = 1
    bias = torch.zeros(8, device=device)
    leaf = u.clone().requires_grad_()
    y, _ = dwconv_gelu_pool(leaf, weight, bias, approximate=approximate)
    (slope,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
    wide = u.double().requires_grad_()
    right = F.gelu(wide, approximate=approximate)
    (right_slope,) = torch.autograd.grad(right, wide, torch.ones_like(right))
    assert torch.allclose(y.double(), right, rtol=2e-7, atol=6e-7)
    assert torch.allclose(slope.double(), right_slope, rtol=0, atol=1e-6)


def test_the_kernel_takes_means_before_rounding(device, kernels):
    """Of 2048.75 and 0.58 in turns. In float16 the first is 2048; steps from 1024 are 1."""
    x = torch.zeros(1, 8, 8, 8, dtype=torch.float16, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    x[:, :, ::2] = 2048
    weight = torch.zeros(8, 1, 3, 3, dtype=torch.float16, device=device)
    weight[:, :, 1, 1] = 1
    bias = torch.full((8,), 0.75, dtype=torch.float16, device=device)
    y, mean = dwconv_gelu_pool(x, weight, bias)
    assert (y[:, :, 0] == 2048).all() and (y[:, :, 1] < 0.6).all()
    assert (mean == 1025).all()  # of the rounded values 1024


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_no_images(device, mode):
    (x, weight, bias), _ = arguments(1, 24, 4, 5, device=device)
    leaves = [tensor.detach().requires_grad_() for tensor in (x[:0], weight, bias)]
    with choice.use(mode):
        y, mean = dwconv_gelu_pool(*leaves)
        gradients = torch.autograd.grad((y.sum() + mean.sum()), leaves)
    assert y.shape == (0, 24, 4, 5) and mean.shape == (0, 24)
    assert [g.shape for g in gradients] == [leaf.shape for leaf in leaves]
    assert not gradients[1].any() and not gradients[2].any()


@pytest.mark.parametrize("used", [0, 1], ids=["y", "mean"])
def test_one_output_used(kernels, device, used):
    inputs, weights = arguments(1, 20, 4, 9, device=device)
    function = lambda *x: dwconv_gelu_pool(*x)[used]  # noqa: E731
    right = lambda *x: definition(*x)[used]  # noqa: E731
    _, gradients = outputs_and_gradients(function, inputs, [weights[used]])
    _, expected = exact(right, inputs, [weights[used]])
    assert all(error(a, b) < 1e-5 for a, b in zip(gradients, expected, strict=True))


def test_strides(kernels, device):
    """A weight and bias that lie anyhow, gradients not channels-last or without memory."""
    (x, weight, bias), (dy, dmean) = arguments(1, 20, 4, 9, device=device)
    bias = bias.repeat_interleave(2)[::2]
    assert not bias.is_contiguous()
    weight = weight.transpose(2, 3).contiguous().transpose(2, 3)
    assert not weight.is_contiguous()
    dy, dmean = dy.contiguous(), dmean[:, :1].expand_as(dmean)
    _, gradients = outputs_and_gradients(dwconv_gelu_pool, [x, weight, bias], [dy, dmean])
    _, expected = exact(definition, [x, weight, bias], [dy, dmean])
    assert all(error(a, b) < 1e-5 for a, b in zip(gradients, expected, strict=True))


@pytest.mark.slow
def test_same_bits_again_and_in_another_batch(kernels, device):
    inputs, weights = arguments(3, 20, 9, 17, device=device)
    first = outputs_and_gradients(dwconv_gelu_pool, inputs, weights)
    again = outputs_and_gradients(dwconv_gelu_pool, inputs, weights)
    assert all(torch.equal(a, b) for a, b in zip(sum(first, ()), sum(again, ()), strict=True))
    alone = [inputs[0][1:2], *inputs[1:]]
    outputs, gradients = outputs_and_gradients(dwconv_gelu_pool, alone, [w[1:2] for w in weights])
    for single, many in zip((*outputs, gradients[0]), (*first[0], first[1][0]), strict=True):
        assert torch.equal(single, many[1:2])


@pytest.mark.parametrize("key", LAUNCHES)
def test_every_candidate_launches(kernels, device, key):
    columns = int(key.split()[1].removeprefix("w"))
    dtype = torch.float32 if key.endswith("32bit") else torch.float16
    inputs, weights = arguments(1, 20, 3, columns, dtype=dtype, device=device)
    expected = exact(definition, inputs, weights)
    assert LAUNCHES[key] in candidates(key)
    for launch in candidates(key)[::5]:
        with launches.trying("dwconv_gelu_pool", key, launch):
            actual = outputs_and_gradients(dwconv_gelu_pool, inputs, weights)
        for outputs, right, gate in zip(actual, expected, GATES[dtype], strict=True):
            assert all(error(a, b) < gate for a, b in zip(outputs, right, strict=True))


def test_specimens_use_every_launch(kernels, device, monkeypatch):
    used = set()
    find = launches.find

    def recorded(name, table, key):
        used.add(key)
        return find(name, table, key)

    monkeypatch.setattr(launches, "find", recorded)
    for specimen in SPECIMENS:
        used.clear()
        assert len(specimen.call(*specimen.inputs(device, False))) == 3
        assert used == set(specimen.keys)
    assert {key for specimen in SPECIMENS for key in specimen.keys} == set(LAUNCHES)


def test_operators(device):
    (x, weight, bias), (dy, dmean) = arguments(2, 12, 3, 5, device=device)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    torch.library.opcheck(operator.forward, (*leaves, False))
    plain = [tensor.detach() for tensor in leaves]
    torch.library.opcheck(operator.backward, (dy, dmean, *plain, True))


def test_compiled(kernels, device):
    inputs, weights = arguments(1, 20, 4, 9, device=device)
    compiled = torch.compile(dwconv_gelu_pool, fullgraph=True, backend="aot_eager")
    actual = outputs_and_gradients(compiled, inputs, weights)
    expected = outputs_and_gradients(dwconv_gelu_pool, inputs, weights)
    assert all(torch.equal(a, b) for a, b in zip(sum(actual, ()), sum(expected, ()), strict=True))


@pytest.mark.parametrize("mode", ["triton", "reference", "auto"])
def test_compiled_once_for_any_batch(device, mode):
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(dwconv_gelu_pool, fullgraph=True, backend=counter)
    with choice.use(mode), torch.no_grad():
        for batch in (2, 3, 5):
            inputs, _ = arguments(batch, 20, 4, 9, device=device)
            torch._dynamo.mark_dynamic(inputs[0], 0)
            y, mean = compiled(*inputs)
            assert torch.equal(y, dwconv_gelu_pool(*inputs)[0]) and mean.shape == (batch, 20)
    assert counter.frame_count == 1


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_autocast(device, mode):
    inputs, _ = arguments(1, 20, 4, 9, device=device)
    with choice.use(mode):
        with torch.autocast(device.type, torch.bfloat16):
            outputs = dwconv_gelu_pool(*inputs)
        expected = dwconv_gelu_pool(*(x.bfloat16() for x in inputs))
    for a, b in zip(outputs, expected, strict=True):
        assert a.dtype == torch.bfloat16 and torch.equal(a, b)


def test_recomputed(kernels, device):
    inputs, weights = arguments(1, 20, 4, 9, device=device)
    function = lambda *x: checkpoint(dwconv_gelu_pool, *x, use_reentrant=False)  # noqa: E731
    actual = outputs_and_gradients(function, inputs, weights)
    expected = outputs_and_gradients(dwconv_gelu_pool, inputs, weights)
    assert all(torch.equal(a, b) for a, b in zip(sum(actual, ()), sum(expected, ()), strict=True))


def test_second_derivatives_of_the_definition_only(device):
    (x, weight, bias), _ = arguments(1, 2, 3, 3, device=device)
    leaves = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    assert torch.autograd.gradcheck(definition, leaves)
    assert torch.autograd.gradgradcheck(definition, leaves)
    with choice.use("triton"):
        leaf = x.requires_grad_()
        (dx,) = torch.autograd.grad(
            dwconv_gelu_pool(leaf, weight, bias)[0].sum(), leaf, create_graph=True
        )
        with pytest.raises(UsageError, match="no second derivative"):
            dx.sum().backward()


def test_definition_is_conv_gelu_mean_to_the_bit():
    (x, weight, bias), _ = arguments(2, 24, 9, 8)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=memory_format)
        y, mean = definition(x, weight, bias)
        hidden = F.gelu(F.conv2d(x, weight, bias, padding=1, groups=24))
        assert torch.equal(y, hidden) and y.stride() == hidden.stride()
        assert torch.equal(mean, hidden.mean(dim=(2, 3), keepdim=True).flatten(1))


@pytest.mark.gpu
@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(4, 416, 32, 32), (2, 1664, 8, 8), (1, 40, 130, 70)], ids=str)
def test_no_worse_than_pytorch(kernels, device, shape, dtype, approximate):
    inputs, weights = arguments(*shape, dtype=dtype, device=device)

    def plain(x, weight, bias):
        u = F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])
        y = F.gelu(u, approximate=approximate)
        return y, y.mean(dim=(2, 3))

    check(shape, dtype, approximate, device)
    expected = exact(lambda *x: definition(*x, approximate), inputs, weights)
    ours = outputs_and_gradients(
        lambda *x: dwconv_gelu_pool(*x, approximate=approximate), inputs, weights
    )
    theirs = outputs_and_gradients(plain, inputs, weights)
    for a, b, right in zip(sum(ours, ()), sum(theirs, ()), sum(expected, ()), strict=True):
        # 2e-7: an error function wrong by 1.5e-7 is all of the error in float32.
        assert error(a, right) <= 1.25 * error(b, right) + 2e-7


@pytest.mark.gpu
def test_more_than_two_to_the_31_elements(kernels, device):
    x = torch.zeros(5, 1024, 1024, 416, dtype=torch.bfloat16, device=device).permute(0, 3, 1, 2)
    (part, weight, bias), _ = arguments(1, 416, 8, 1024, dtype=torch.bfloat16, device=device)
    x[4:, :, -8:] = part
    y, _ = dwconv_gelu_pool(x, weight, bias)
    right, _ = dwconv_gelu_pool(part, weight, bias)
    assert torch.equal(y[4:, :, -7:], right[:, :, 1:])
