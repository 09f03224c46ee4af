"""The kernels as operators of PyTorch, `torch.ops.gensynth.dwconv_gelu_pool*`."""

from typing import Any

import torch
from torch import Tensor

from gensynth.ops.library import register


def run(x: Tensor, weight: Tensor, bias: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    from gensynth.ops.dwconv_gelu_pool import triton as kernels

    return kernels.forward(x, weight, bias, tanh)


def fake(x: Tensor, weight: Tensor, bias: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    y = torch.empty_like(x, memory_format=torch.channels_last)
    return y, x.new_empty(x.shape[:2])


def run_backward(
    dy: Tensor, dmean: Tensor, x: Tensor, weight: Tensor, bias: Tensor, tanh: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from gensynth.ops.dwconv_gelu_pool import triton as kernels

    return kernels.backward(dy, dmean, x, weight, bias, tanh)


def fake_backward(
    dy: Tensor, dmean: Tensor, x: Tensor, weight: Tensor, bias: Tensor, tanh: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    return dx, weight.new_empty(weight.shape), bias.new_empty(bias.shape)


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, ctx.tanh = inputs
    ctx.save_for_backward(x, weight, bias)


def differentiate(ctx: Any, dy: Tensor, dmean: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    return *backward(dy, dmean, *ctx.saved_tensors, ctx.tanh), None


backward = register(
    "dwconv_gelu_pool_backward(Tensor dy, Tensor dmean, Tensor x, Tensor weight, Tensor bias, "
    "bool tanh) -> (Tensor, Tensor, Tensor)",
    run_backward,
    fake_backward,
)
forward = register(
    "dwconv_gelu_pool(Tensor x, Tensor weight, Tensor bias, bool tanh) -> (Tensor, Tensor)",
    run,
    fake,
    backward=differentiate,
    setup_context=setup_context,
)
