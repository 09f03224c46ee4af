"""Kernels at sizes in use, in CUDA graphs and in compiled code. All of it needs a GPU.

For memory errors: `compute-sanitizer --tool memcheck python -m pytest -m gpu -k memory`.
"""

import pytest
import torch
from numerics import GATES, error, exact, outputs_and_gradients, random

from gensynth.ops import OPERATORS, dwconv_gelu_pool, linear_attention, local_attention, use

pytestmark = pytest.mark.gpu


def published(q, k, v):
    """LinFusion's attention as it is published, in the type of its inputs."""
    q, k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
    normalizer = q @ k.mean(dim=-2, keepdim=True).transpose(-2, -1) + 1e-4
    share = q.shape[-2] ** -0.5
    return q @ ((k.transpose(-2, -1) * share) @ (v * share)) / normalizer


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dim", [40, 64, 80, 128, 160])
def test_linear_attention_at_sizes_in_use(kernels, device, dim, dtype):
    inputs = [random(1, 4, 16384, dim, seed=s, dtype=dtype, device=device) for s in range(3)]
    weight = random(1, 4, 16384, dim, seed=3, dtype=dtype, device=device)
    with use("reference"):
        (right,), slopes = exact(linear_attention, inputs, [weight])
    (ours,), gradients = outputs_and_gradients(linear_attention, inputs, [weight])
    (other,), others = outputs_and_gradients(published, inputs, [weight])
    gate, gate_of_gradient = GATES[dtype]
    assert error(ours, right) < min(gate, 1.25 * error(other, right))
    for one, peer, slope in zip(gradients, others, slopes, strict=True):
        assert error(one, slope) < min(gate_of_gradient, 1.25 * error(peer, slope))


def test_linear_attention_of_more_than_two_to_the_31_elements(kernels, device):
    """18 heads of 128 channels of a million tokens: the last head is what it is alone."""
    if torch.cuda.mem_get_info()[0] < 30 * 2**30:
        pytest.skip("needs 30 GB of the GPU's memory")
    generator = torch.Generator(device).manual_seed(0)
    shape = (1, 18, 2**20, 128)
    q = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)
    assert q.numel() > 2**31
    whole = linear_attention(q, q, q)
    last = q[:, -1:]
    assert torch.equal(whole[:, -1:], linear_attention(last, last, last))


def calls(device: torch.device):
    """A function of one tensor for each operator, and the tensor."""
    q = random(1, 2, 1024, 64, seed=0, dtype=torch.bfloat16, device=device)
    x = random(2, 16, 16, 64, seed=1, dtype=torch.bfloat16, device=device).permute(0, 3, 1, 2)
    weight = random(64, 1, 3, 3, seed=2, dtype=torch.bfloat16, device=device)
    bias = random(64, seed=3, dtype=torch.bfloat16, device=device)
    return {
        "linear_attention": (lambda q: linear_attention(q, q, q), q),
        "local_attention": (
            lambda q: local_attention(q, q, q, height=32, width=32, window=5),
            q,
        ),
        "dwconv_gelu_pool": (lambda x: dwconv_gelu_pool(x, weight, bias)[0], x),
    }


@pytest.mark.parametrize("name", OPERATORS)
def test_in_a_cuda_graph(kernels, device, name):
    function, x = calls(device)[name]
    with torch.no_grad():
        expected = function(x)
        static = x.clone()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = function(static)
        static.copy_(x)
        graph.replay()
    assert torch.equal(output, expected)


@pytest.mark.parametrize("name", OPERATORS)
def test_in_compiled_code(kernels, device, name):
    function, x = calls(device)[name]
    leaf = x.detach().requires_grad_()
    compiled = torch.compile(lambda x: function(x) * 2, fullgraph=True)
    actual = compiled(leaf)
    assert torch.equal(actual, function(x) * 2)
    (gradient,) = torch.autograd.grad(actual.float().sum(), leaf)
    plain = x.detach().requires_grad_()
    (expected,) = torch.autograd.grad((function(plain) * 2).float().sum(), plain)
    assert error(gradient, expected) < 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_no_memory_is_touched_beyond_the_tensors(kernels, device, name):
    """The smallest calls of every launch; an error shows under compute-sanitizer."""
    for specimen in OPERATORS[name].specimens():
        specimen.call(*specimen.inputs(device, False))
    torch.cuda.synchronize()
