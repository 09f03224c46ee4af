"""Softmax attention: torch's, in a type in which it is quick."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.ops.precision import autocast_inputs, without_autocast


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(D)) v [B, H, N, D], for q [B, H, N, D] and k, v [B, H, M, D].

    What is trained on a CPU in 16 bits is computed in float32 and comes back in 16 bits: backwards
    torch's kernel for CPUs is many times slower in 16 bits.

    Args:
        mask: bool, true where it looks, or what is added to the scores; broadcasts to [B, H, N, M].
        dropout: share of the weights that is dropped.
    """
    (told,) = autocast_inputs(q[:0])
    short = told.dtype in (torch.float16, torch.bfloat16)
    if not (short and q.device.type == "cpu" and torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    with without_autocast(q):
        output = F.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), attn_mask=mask, dropout_p=dropout
        )
    return output.to(told.dtype)
