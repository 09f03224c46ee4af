"""Calls that use every launch: the widths of heads that models have, in 16 and in 32 bits."""

import torch
from torch import Tensor

from gensynth.ops.local_attention import local_attention
from gensynth.ops.local_attention.launches import key_of
from gensynth.ops.specimens import Specimen

KERNELS = ("forward", "gradient_q", "gradient_kv", "gradient_everywhere")


def specimen(head_dim: int, dtype: torch.dtype, gradients: bool = True) -> Specimen:
    """FLUX with CLEAR at 2048 pixels, in heads of `head_dim` channels."""
    name = str(dtype).removeprefix("torch.")

    def inputs(device: torch.device, as_in_use: bool) -> tuple[Tensor, ...]:
        side, text, heads = (128, 512, 24) if as_in_use else (8, 16, 1)
        generator = torch.Generator().manual_seed(0)
        shape = (1, heads, text + side**2, head_dim)
        return tuple(torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4))

    def call(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        side, text, window = (128, 512, 16) if q.shape[2] > 80 else (8, 16, 3)
        leaves = [x.detach().requires_grad_(gradients) for x in (q, k, v)]
        output = local_attention(*leaves, height=side, width=side, window=window, text_length=text)
        return torch.autograd.grad(output, leaves, grad) if gradients else (output,)

    keys = [key_of(kernel, head_dim, dtype) for kernel in KERNELS]
    return Specimen(
        f"D={head_dim} {name}" + ("" if gradients else ", no gradients"),
        (*keys, "sum") if gradients else (keys[0],),
        inputs,
        call,
    )


SPECIMENS = (
    *(specimen(head_dim, torch.bfloat16) for head_dim in (16, 32, 64, 72, 128)),
    specimen(128, torch.float16),
    *(specimen(head_dim, torch.float32) for head_dim in (16, 32, 64, 128)),
    specimen(128, torch.bfloat16, gradients=False),
)
