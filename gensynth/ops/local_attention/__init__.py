"""Attention of each image token to the tokens inside a disc around it, and to all text tokens."""

from typing import Any

from torch import Tensor

from gensynth.ops.checks import check_tensors
from gensynth.ops.choice import kernel_chosen, refusal_of_tensors, why_slower_on_device
from gensynth.ops.local_attention import operator, reference
from gensynth.ops.local_attention.composition import check_arguments, check_scale, compose
from gensynth.ops.local_attention.launches import WIDTHS
from gensynth.ops.precision import autocast_inputs

__all__ = ["local_attention", "refusal", "why_slower"]

LARGEST_SIDE = 32767  # so that a squared distance fits 32 bits
SMALLEST_SIDE = 96  # of an image, in tokens, for which the kernel is expected to pay


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    height: int,
    width: int,
    window: int,
    text_length: int = 0,
    down_factor: int = 1,
    pool_weight: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention in which an image query sees its neighbourhood only (arXiv 2412.16112).

    An image query sees the image tokens at a squared distance below `window`^2 (strictly), all
    text tokens, and with `down_factor` above 1 all pooled image tokens. A text query sees every
    text and image token, but no pooled one.

    Under autocast q, k and v are cast as for a matrix product. Sums are in float32, in the type of
    q for float64.

    Args:
        q, k, v: [B, H, text_length + height * width, D]; text first, then the image row by row.
        window: radius of the disc in tokens, at least 1 (the token itself).
        down_factor: side of the squares of tokens that are pooled into further keys and values.
        pool_weight: [down_factor, down_factor] weights of that pooling, of any floating type; None
            for the mean. The kernel rounds them to the type of q, the definition to float32.
        scale: factor on q·k; None for 1 / sqrt(D).

    Returns:
        [B, H, text_length + height * width, D].

    Raises:
        UsageError: a type, device, shape, window or factor that does not fit; names the argument.
            Also where `GENSYNTH_OPS=triton` demands a kernel that cannot run.
    """
    check_tensors(q=q, k=k, v=v)
    check_scale(scale)
    q, k, v = autocast_inputs(q, k, v)
    sizes: dict[str, Any] = {
        "height": height,
        "width": width,
        "window": window,
        "text_length": text_length,
        "down_factor": down_factor,
        "pool_weight": pool_weight,
    }
    check_arguments(q, k, v, **sizes)
    no, slower = refusal(q, k, v, **sizes), why_slower(q, k, v, **sizes)
    if kernel_chosen("local_attention", no, slower):
        return compose(operator.attend_disc, q, k, v, scale=scale, **sizes)
    return reference.local_attention(q, k, v, scale=scale, **sizes)


def refusal(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> str | None:
    """Why the kernel cannot run on the arguments of `local_attention`; None if it can."""
    if q.shape[3] > WIDTHS[-1]:
        return f"head_dim {q.shape[3]} is above {WIDTHS[-1]}"
    if max(options["height"], options["width"]) > LARGEST_SIDE:
        return f"the image has a side of more than {LARGEST_SIDE:,} tokens"
    return refusal_of_tensors(q, k, v)


def why_slower(
    q: Tensor, k: Tensor, v: Tensor, *, height: int, width: int, window: int, **options: Any
) -> str | None:
    """Why the kernel would not be faster on the arguments of `local_attention`; None if it would.

    Does not quote the sizes: a compiled model would then be one of these sizes only.
    """
    if min(height, width) < SMALLEST_SIDE:
        return f"the image is smaller than {SMALLEST_SIDE} x {SMALLEST_SIDE} tokens"
    if 3 * window >= min(height, width):
        return "the window is a third of the image or more"
    if q.shape[3] % 8:
        return "head_dim is not a multiple of 8, so that numbers are read one by one"
    return why_slower_on_device(q)
