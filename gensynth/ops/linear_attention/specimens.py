"""Calls that stand for linear attention."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gensynth.ops.linear_attention.launches import KERNELS, TYPES, WIDTHS
from gensynth.ops.linear_attention.operator import forward_operator
from gensynth.ops.specimens import Specimen

TOKENS, HEADS = 16384, 20  # of an image of 2048 pixels in SDXL, batch 1


def inputs_of(width: int, dtype: torch.dtype) -> Callable[[torch.device, bool], tuple[Tensor, ...]]:
    def make(device: torch.device, in_use: bool) -> tuple[Tensor, ...]:
        batch, tokens, heads = (1, TOKENS, HEADS) if in_use else (1, 16, 1)
        generator = torch.Generator(device).manual_seed(0)
        shape = (batch, tokens, heads, width)
        q, k, v, gradient = (
            torch.randn(shape, generator=generator, device=device).to(dtype).transpose(1, 2)
            for _ in range(4)
        )
        return q, k, v, gradient

    return make


def call(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor) -> Any:
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        out = forward_operator(*leaves, "elu1", 1e-4)[0]
        return torch.autograd.grad(out, leaves, gradient)


SPECIMENS = tuple(
    Specimen(
        label=f"D={width} {str(dtype).removeprefix('torch.')}",
        keys=tuple(f"{kernel} d{width} {bits}" for kernel in KERNELS),
        inputs=inputs_of(width, dtype),
        call=call,
    )
    for width in WIDTHS
    for bits, dtype in zip(TYPES, (torch.bfloat16, torch.float32), strict=True)
)
