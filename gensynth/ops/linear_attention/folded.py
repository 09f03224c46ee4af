"""Linear attention and the projection after it in one product, for inference."""

import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.choice import kernel_chosen
from gensynth.ops.linear_attention import check, refusal, why_slower
from gensynth.ops.linear_attention.operator import state_operator
from gensynth.ops.linear_attention.reference import FEATURES, wide
from gensynth.ops.precision import autocast_inputs, without_autocast


def linear_attention_folded(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    feature: str = "elu1",
    eps: float = 1e-4,
) -> Tensor:
    """What `F.linear` makes of the merged heads of `linear_attention`, up to rounding.

    The output is linear in the state, so the projection is applied to the state, which has D rows
    a head, instead of to the tokens: φ(q) / z times the states' product with the weight.

    Args:
        q, k, v, feature, eps: as in `linear_attention`.
        weight, bias: [C, H * E] and [C].

    Returns:
        [B, N, C]. Where a gradient is asked for, the definition sums the state.

    Raises:
        UsageError: as `linear_attention`; a weight of another width than the merged heads.
    """
    q, k, v, weight = autocast_inputs(q, k, v, weight)
    check(q, k, v, feature, eps)
    heads, values = v.shape[1], v.shape[3]
    if weight.dim() != 2 or weight.shape[1] != heads * values:
        raise UsageError(
            f"weight must be [C, {heads * values}] for {heads} heads of {values}, "
            f"got {list(weight.shape)}."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UsageError(f"bias must be [{weight.shape[0]}], got {list(bias.shape)}.")
    state, key_mean = state_and_mean(q, k, v, feature, eps)
    with without_autocast(q):
        phi_q = FEATURES[feature](wide(q))  # [B, H, N, D]
        normalizer = phi_q @ key_mean.unsqueeze(-1) + eps
        # [B, N, H * D]
        weights = (phi_q / normalizer).to(q.dtype).transpose(1, 2).flatten(2)
        # [C, H * E] -> [H, E, C], then [B, H, D, E] @ [H, E, C] -> [B, H * D, C]
        by_head = wide(weight).unflatten(1, (heads, values)).permute(1, 2, 0)
        folded = (state @ by_head).flatten(1, 2).to(q.dtype)
        product = weights @ folded
        return product if bias is None else product + bias.to(product.dtype)


def state_and_mean(
    q: Tensor, k: Tensor, v: Tensor, feature: str, eps: float
) -> tuple[Tensor, Tensor]:
    """φ(k)ᵀ v / N, [B, H, D, E], and the mean of φ(k), [B, H, D], at least float32."""
    reasons = [find(q, k, v, feature=feature, eps=eps) for find in (refusal, why_slower)]
    if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
        reasons[0] = reasons[0] or "a gradient is needed, and the kernel of the state has none"
    queries = max(q.shape[2], 1)
    if kernel_chosen("linear_attention_folded", *reasons):
        # S = n T + m cᵀ, see `triton.py`; what is padded is cut off again
        centered, mean, center = state_operator(k, v, queries, feature)
        scale = torch.ones_like(mean) if feature == "identity" else mean
        state = centered * scale.unsqueeze(-1) + mean.unsqueeze(-1) * center.unsqueeze(-2)
        return state[..., : k.shape[-1], : v.shape[-1]], mean[..., : k.shape[-1]]
    with without_autocast(q):
        phi_k = FEATURES[feature](wide(k))
        return phi_k.transpose(-2, -1) @ (wide(v) / queries), phi_k.mean(dim=-2)
