"""The kernels as operators of PyTorch."""

from typing import Any

import torch
from torch import Tensor

from gensynth.ops import library

SIZES = "SymInt height, SymInt width, int window, float scale"


def forward(
    q: Tensor, k: Tensor, v: Tensor, everywhere_k: Tensor, everywhere_v: Tensor,
    height: int, width: int, window: int, scale: float, differentiable: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    from gensynth.ops.local_attention import triton

    sizes = (height, width, window, scale)
    return triton.forward(q, k, v, everywhere_k, everywhere_v, *sizes, differentiable)


def forward_fake(
    q: Tensor, k: Tensor, v: Tensor, everywhere_k: Tensor, everywhere_v: Tensor,
    height: int, width: int, window: int, scale: float, differentiable: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    keeps = differentiable and q.dtype != torch.float32
    remainder = heads_fake(q) if keeps else q.new_empty(0)
    return heads_fake(q), remainder, q.new_empty(q.shape[:3], dtype=torch.float32)


def heads_fake(like: Tensor) -> Tensor:
    batch, heads, tokens, dim = like.shape
    return like.new_empty(batch, tokens, heads, dim).transpose(1, 2)


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, height, width, window, scale, _ = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.sizes = (height, width, window, scale)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def differentiate(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 10
    return (*disc_attention_backward(grad, *ctx.saved_tensors, *ctx.sizes), *(None,) * 5)


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, everywhere_k: Tensor, everywhere_v: Tensor,
    output: Tensor, remainder: Tensor, lse: Tensor,
    height: int, width: int, window: int, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    from gensynth.ops.local_attention import triton_backward

    tensors = (grad, q, k, v, everywhere_k, everywhere_v, output, remainder, lse)
    return triton_backward.backward(*tensors, height, width, window, scale)


def backward_fake(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, everywhere_k: Tensor, everywhere_v: Tensor,
    *_: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    shared = (x.new_empty(x.shape) for x in (everywhere_k, everywhere_v))
    return (heads_fake(q), heads_fake(k), heads_fake(v), *shared)


disc_attention = library.register(
    "disc_attention(Tensor q, Tensor k, Tensor v, Tensor everywhere_k, Tensor everywhere_v, "
    f"{SIZES}, bool differentiable) -> (Tensor, Tensor, Tensor)",
    forward,
    forward_fake,
    backward=differentiate,
    setup_context=setup_context,
)
disc_attention_backward = library.register(
    "disc_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor everywhere_k, "
    f"Tensor everywhere_v, Tensor output, Tensor remainder, Tensor lse, {SIZES}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    backward,
    backward_fake,
)


def attend_disc(
    q: Tensor, k: Tensor, v: Tensor, everywhere_k: Tensor, everywhere_v: Tensor,
    height: int, width: int, window: int, scale: float,
) -> Tensor:  # fmt: skip
    """Attention of image queries by the kernels, [B, H, height * width, D]."""
    tensors = (q, k, v, everywhere_k, everywhere_v)
    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return disc_attention(*tensors, height, width, window, float(scale), differentiable)[0]
