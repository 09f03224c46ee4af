"""The definition of linear attention in plain PyTorch, at least float32 inside."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.precision import without_autocast

# Feature maps, positive so that the weights of the mean are; "identity": the arguments are features
# already.
FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "elu1": lambda x: F.elu(x) + 1,
    "relu": F.relu,
    "identity": lambda x: x,
}


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature: str = "elu1",
    eps: float = 1e-4,
    rotate: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """What `gensynth.ops.linear_attention` documents: φ(q) (φ(k)ᵀ v / N) / (φ(q)·mean φ(k) + eps).

    Sums over all tokens lose too much in half precision, so they are in float32, under autocast
    too.
    """
    phi = FEATURES[feature]
    with without_autocast(q):
        phi_q, phi_k, values = phi(wide(q)), phi(wide(k)), wide(v)
        # [B, H, N, 1]; before `rotate`, which would make it negative
        normalizer = phi_q @ phi_k.mean(dim=-2).unsqueeze(-1) + eps
        if rotate is not None:
            phi_q, phi_k = rotate(phi_q), rotate(phi_k)
        # [B, H, D, E]; over N before the sum, which keeps it small
        state = phi_k.transpose(-2, -1) @ (values / max(q.shape[-2], 1))
        return (phi_q @ state / normalizer).to(q.dtype)


def wide(x: Tensor) -> Tensor:
    """In float32, or float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_feature(feature: str) -> None:
    """
    Raises:
        UsageError: not a key of `FEATURES`.
    """
    if feature not in FEATURES:
        raise UsageError(f"unknown feature {feature!r}; known: {', '.join(FEATURES)}.")


def check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Refuses tensors that are not [B, H, N, D], [B, H, M, D], [B, H, M, E].

    Raises:
        UsageError: names the tensor, its shape and what was expected.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() != 4:
            expected = "[B, H, N, D]" if name == "q" else "[B, H, tokens, width]"
            raise UsageError(f"{name} must be {expected}, got shape {list(tensor.shape)}.")
    if k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        raise UsageError(
            f"k must share batch, heads and width with q {list(q.shape)}, got {list(k.shape)}."
        )
    if v.shape[:3] != k.shape[:3]:
        raise UsageError(
            f"v must share batch, heads and length with k {list(k.shape)}, got {list(v.shape)}."
        )
