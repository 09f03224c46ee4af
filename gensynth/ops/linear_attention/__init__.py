"""Normalised, non-causal linear attention: time and memory linear in the number of tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.checks import check_alike, check_tensors
from gensynth.ops.choice import kernel_chosen, refusal_of_tensors, why_slower_on_device
from gensynth.ops.linear_attention.operator import forward_operator
from gensynth.ops.linear_attention.reference import check_feature, check_shapes, reference
from gensynth.ops.precision import autocast_inputs

__all__ = ["linear_attention", "refusal", "why_slower"]

WIDEST = 256  # of the heads that there are launches for
FEWEST_TOKENS = 1024


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature: str = "elu1",
    eps: float = 1e-4,
    rotate: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """For each query the mean of `v` weighted by φ(q)·φ(k) (LinFusion, arXiv 2409.02097, eq. 7).

    Args:
        q: [B, H, N, D].
        k, v: [B, H, M, D], [B, H, M, E], M at least 1.
        feature: φ: "elu1" (ELU + 1), "relu", or "identity" for q and k that are features already.
        eps: added to the normaliser φ(q)·mean(φ(k)).
        rotate: turns features [B, H, N or M, D] by position, in the numerator only, so that the
            normaliser stays positive (RoFormer, arXiv 2104.09864, eq. 19).

    Returns:
        [B, H, N, E]: φ(q) (φ(k)ᵀ v / N) / (φ(q)·mean φ(k) + eps), in the type of q. The published
        code divides by the number of queries; with M = N, self-attention, that is the mean.

    The kernel has no second derivative. Its output lies in memory as [B, N, H, E].

    Raises:
        UsageError: an unknown feature; tensors of unlike type, device or shape.
    """
    check_tensors(q=q, k=k, v=v)
    q, k, v = autocast_inputs(q, k, v)
    check(q, k, v, feature, eps)
    no = refusal(q, k, v, feature=feature, rotate=rotate)
    if kernel_chosen("linear_attention", no, why_slower(q, k, v)):
        return forward_operator(q, k, v, feature, float(eps))[0]
    return reference(q, k, v, feature=feature, eps=eps, rotate=rotate)


def check(q: Tensor, k: Tensor, v: Tensor, feature: str, eps: float) -> None:
    check_feature(feature)
    if not isinstance(eps, int | float | torch.SymFloat) or not eps >= 0:
        raise UsageError(f"eps must be a number from 0, got {eps!r}.")
    if not q.is_floating_point():
        raise UsageError(f"q must be of a floating type, got {q.dtype}.")
    check_alike(q=q, k=k, v=v)
    check_shapes(q, k, v)
    if k.shape[2] < 1:
        raise UsageError(f"k must have at least one token, got shape {list(k.shape)}.")


def refusal(
    q: Tensor, k: Tensor, v: Tensor, *, feature: str = "elu1", rotate: Any = None, **options: Any
) -> str | None:
    """Why the kernel cannot run on the arguments of `linear_attention`; None if it can."""
    if rotate is not None:
        return "rotate is given, and the kernel does not turn features"
    if not 1 <= q.shape[-1] <= WIDEST:
        return f"head_dim {q.shape[-1]} is not in 1 to {WIDEST}"
    if not 1 <= v.shape[-1] <= WIDEST:
        return f"the width of v, {v.shape[-1]}, is not in 1 to {WIDEST}"
    if feature == "identity" and q.dtype == torch.float16:
        return "features of any size (feature 'identity') do not fit float16"
    return refusal_of_tensors(q, k, v)


def why_slower(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> str | None:
    """Why the kernel would not be faster on the arguments of `linear_attention`; None where it may.

    Does not quote the sizes: a compiled model would then be one of these sizes only.
    """
    if max(q.shape[2], k.shape[2]) < FEWEST_TOKENS:
        return f"there are fewer than {FEWEST_TOKENS:,} tokens"
    if q.shape[-1] % 8 or v.shape[-1] % 8:
        return "the widths are not multiples of 8, so that numbers are read one by one"
    return why_slower_on_device(q)
