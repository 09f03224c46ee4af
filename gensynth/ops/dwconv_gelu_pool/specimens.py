"""Calls that use every launch: both widths of strips, in 16 and in 32 bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from gensynth.ops.dwconv_gelu_pool import dwconv_gelu_pool
from gensynth.ops.dwconv_gelu_pool.launches import key
from gensynth.ops.specimens import Specimen

KERNELS = ("forward", "backward", "gradients")


def specimen(columns: int, channels: int, dtype: torch.dtype, approximate: str) -> Specimen:
    """A level of DiCo-XL at 256 pixels whose images are 32, 16 or 8 positions wide."""
    side = 8 if columns == 8 else 32

    def inputs(device: torch.device, as_in_use: bool) -> tuple[Tensor, ...]:
        shape = (64, channels, side, side) if as_in_use else (1, 64, 2, columns)
        return make_inputs(shape, dtype, device)

    return Specimen(
        f"C={channels} {side}x{side} {approximate} {str(dtype).removeprefix('torch.')}",
        tuple(key(kernel, columns, dtype.itemsize) for kernel in KERNELS),
        inputs,
        forward_and_backward(approximate),
    )


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    """x, weight, bias and the gradients of y and of the means; x and y channels-last."""
    generator = torch.Generator().manual_seed(0)
    batch, channels = shape[:2]
    x, dy = (
        torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)
        for _ in range(2)
    )
    weight = torch.randn(channels, 1, 3, 3, generator=generator) / 3
    bias = torch.randn(channels, generator=generator)
    dmean = torch.randn(batch, channels, generator=generator)
    return tuple(tensor.to(device, dtype) for tensor in (x, weight, bias, dy, dmean))


def forward_and_backward(approximate: str) -> Callable[..., tuple[Tensor, ...]]:
    def call(
        x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor, dmean: Tensor
    ) -> tuple[Tensor, ...]:
        leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
        outputs = dwconv_gelu_pool(*leaves, approximate=approximate)
        return torch.autograd.grad(outputs, leaves, [dy, dmean])

    return call


SPECIMENS = (
    specimen(16, 416, torch.bfloat16, "none"),
    specimen(16, 416, torch.bfloat16, "tanh"),
    specimen(8, 1664, torch.bfloat16, "none"),
    specimen(16, 416, torch.float32, "none"),
    specimen(8, 1664, torch.float32, "none"),
)
