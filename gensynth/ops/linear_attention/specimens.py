"""Calls that stand for linear attention."""

from typing import Any

import torch
from torch import Tensor

from gensynth.ops.linear_attention.launches import KERNELS, TYPES, WIDTHS, width_of
from gensynth.ops.linear_attention.operator import forward_operator, padded
from gensynth.ops.specimens import Specimen

TOKENS, HEADS = 16384, 20  # of an image of 2048 pixels in SDXL, batch 1


def specimen(keys: int, values: int, dtype: torch.dtype) -> Specimen:
    """Heads with keys and values of these widths."""

    def inputs(device: torch.device, in_use: bool) -> tuple[Tensor, ...]:
        batch, tokens, heads = (1, TOKENS, HEADS) if in_use else (1, 16, 1)
        generator = torch.Generator(device).manual_seed(0)
        q, k, v, gradient = (
            torch.randn((batch, tokens, heads, width), generator=generator, device=device)
            for width in (keys, keys, values, values)
        )
        return tuple(x.to(dtype).transpose(1, 2) for x in (q, k, v, gradient))

    width = width_of(padded(keys), padded(values))
    bits = TYPES[0] if dtype.itemsize == 2 else TYPES[1]
    widths = f"D={keys}" if keys == values else f"D={keys}, E={values}"
    return Specimen(
        label=f"{widths} {str(dtype).removeprefix('torch.')}",
        keys=tuple(f"{kernel} d{width} {bits}" for kernel in KERNELS),
        inputs=inputs,
        call=call,
    )


def call(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor) -> Any:
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        out = forward_operator(*leaves, "elu1", 1e-4)[0]
        return torch.autograd.grad(out, leaves, gradient)


# Every width in both sizes of numbers; then a padded one, keys wider than values, as of NaLa and
# InLine, and float16, whose products are scaled.
SPECIMENS = (
    *(specimen(width, width, t) for width in WIDTHS for t in (torch.bfloat16, torch.float32)),
    specimen(160, 160, torch.bfloat16),
    specimen(64, 32, torch.bfloat16),
    specimen(73, 72, torch.float32),
    specimen(128, 128, torch.float16),
)
