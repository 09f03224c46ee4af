"""What holds for every operator with a kernel."""

import pytest
import torch
from numerics import error, random
from torch._dynamo.testing import CompileCounterWithBackend

from gensynth.ops import OPERATORS, choice, dwconv_gelu_pool, linear_attention, local_attention, use

pytestmark = pytest.mark.skipif(not choice.HAS_TRITON, reason="Triton is not installed")


def call(name: str, device: torch.device):
    """A function and its tensors, small ones."""
    if name == "dwconv_gelu_pool":
        x = random(2, 5, 6, 16, seed=0, device=device).permute(0, 3, 1, 2)
        weight, bias = (random(*s, seed=1, device=device) for s in ((16, 1, 3, 3), (16,)))
        return (lambda *t: dwconv_gelu_pool(*t)[0]), [x, weight, bias]
    tensors = [3 * random(1, 2, 36, 16, seed=seed, device=device) for seed in range(3)]
    if name == "linear_attention":
        return linear_attention, tensors
    return (lambda q, k, v: local_attention(q, k, v, height=6, width=6, window=3)), tensors


def gradients(function, tensors, outside: bool):
    """Under autocast, the backward pass inside of it or outside."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    device = leaves[0].device.type
    with torch.autocast(device, dtype=torch.float16):
        output = function(*leaves)
        loss = (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()
        if not outside:
            return torch.autograd.grad(loss, leaves)
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_backward_pass_inside_autocast_is_the_same(kernels, device, name):
    function, tensors = call(name, device)
    inside = gradients(function, tensors, outside=False)
    outside = gradients(function, tensors, outside=True)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


@pytest.mark.parametrize("name", ["linear_attention", "local_attention"])
def test_newer_settings_of_precision_are_read(kernels, device, name):
    """The older one raises once a newer one was used."""
    function, tensors = call(name, device)
    expected = function(*tensors)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert error(function(*tensors), expected) < 1e-3
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("mode", ["auto", "triton"])
def test_compiled_once_for_any_batch_and_length(device, name, mode):
    """No reason for or against the kernel quotes a size, which would bind the code to it."""
    if name == "local_attention" and mode == "auto":
        pytest.skip("the definition is unrolled for each size, which takes long to trace")
    sizes = [(2, 24), (3, 32)]

    def make(batch: int, tokens: int):
        if name == "dwconv_gelu_pool":
            x = random(batch, 5, tokens, 16, seed=0, device=device).permute(0, 3, 1, 2)
            return [x, *call(name, device)[1][1:]]
        return [random(batch, 5, tokens, 16, seed=seed, device=device) for seed in range(3)]

    def function(*tensors):
        if name == "local_attention":
            width = tensors[0].shape[2] // 2
            return local_attention(*tensors, height=2, width=width, window=2)
        return call_by_name(name, tensors)

    counter = CompileCounterWithBackend("aot_eager")
    with use(mode):
        compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
        for size in sizes:
            tensors = make(*size)
            assert error(compiled(*tensors), function(*tensors)) < 1e-5
    with_work = [g for g in counter.graphs if any(n.op == "call_function" for n in g.graph.nodes)]
    assert len(with_work) == 1
    torch._dynamo.reset()


def call_by_name(name, tensors):
    return (
        dwconv_gelu_pool(*tensors)[0] if name == "dwconv_gelu_pool" else linear_attention(*tensors)
    )


@pytest.mark.parametrize("name", ["linear_attention", "local_attention"])
def test_samples_that_lie_two_to_the_31_elements_apart(kernels, device, name):
    """Offsets are computed in 64 bits; of the memory between them nothing is touched."""
    function, tensors = call(name, device)
    wide = []
    for tensor in tensors:
        storage = torch.empty(2**31 + tensor.numel(), dtype=torch.float16, device=device)
        far = storage.as_strided((2, *tensor.shape[1:]), (2**31, *tensor.stride()[1:]))
        far.copy_(tensor.to(torch.float16).expand_as(far))
        wide.append(far)
    whole = function(*wide)
    assert torch.equal(whole[0], whole[1])
    assert torch.equal(whole[:1], function(*(x[:1].clone() for x in wide)))
