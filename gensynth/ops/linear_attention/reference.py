"""The definition of linear attention in plain PyTorch, float32 inside."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.precision import without_autocast

# Feature maps: positive, so that the weights of the mean are positive.
FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "elu1": lambda x: F.elu(x) + 1,
    "relu": F.relu,
}


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, *, feature: str = "elu1", eps: float = 1e-4
) -> Tensor:
    """For each query the mean of `v` weighted by φ(q)·φ(k) (LinFusion, arXiv 2409.02097, eq. 7).

    Args:
        q: [B, H, N, D].
        k, v: [B, H, M, D], [B, H, M, E].
        feature: φ, a key of `FEATURES`.
        eps: added to the normaliser φ(q)·mean(φ(k)).

    Returns:
        [B, H, N, E]: φ(q) (φ(k)ᵀ v / N) / (φ(q)·mean φ(k) + eps). The published code divides by
        the number of queries; with M = N, self-attention, that is the mean.
    """
    if feature not in FEATURES:
        raise UsageError(f"unknown feature {feature!r}; known: {', '.join(FEATURES)}.")
    check_shapes(q, k, v)
    phi = FEATURES[feature]
    return weighted_mean(phi(q.float()), phi(k.float()), v, eps).to(q.dtype)


def weighted_mean(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    eps: float,
    rotate: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """phi_q (phi_kᵀ v / N) / (phi_q·mean phi_k + eps), float32 [B, H, N, E].

    From features [B, H, N, D] and values [B, H, N, E], in float32 also under autocast: sums over
    all tokens lose too much in half precision.

    `rotate` turns the features by position in the numerator only, so that the normaliser stays
    positive (RoFormer, arXiv 2104.09864, eq. 19).
    """
    phi_q, phi_k, v = phi_q.float(), phi_k.float(), v.float()
    with without_autocast(phi_q):
        normalizer = phi_q @ phi_k.mean(dim=-2).unsqueeze(-1) + eps
        if rotate is not None:
            phi_q, phi_k = rotate(phi_q), rotate(phi_k)
        return phi_q @ (phi_k.transpose(-2, -1) @ (v / phi_q.shape[-2])) / normalizer


def check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Refuses tensors that are not [B, H, N, D], [B, H, M, D], [B, H, M, E].

    Raises:
        UsageError: names the tensor, its shape and what was expected.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() != 4:
            raise UsageError(f"{name} must be [B, H, N, D], got shape {list(tensor.shape)}.")
    if k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        raise UsageError(
            f"k must share batch, heads and width with q {list(q.shape)}, got {list(k.shape)}."
        )
    if v.shape[:3] != k.shape[:3]:
        raise UsageError(
            f"v must share batch, heads and length with k {list(k.shape)}, got {list(v.shape)}."
        )
