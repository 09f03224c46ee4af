"""Depthwise 3x3 convolution, GELU and the means of the channels, in one pass over the image."""

import torch
from torch import Tensor

from gensynth.ops import choice
from gensynth.ops.checks import check_tensors
from gensynth.ops.dwconv_gelu_pool import operator, reference
from gensynth.ops.precision import autocast_inputs

__all__ = ["dwconv_gelu_pool", "refusal", "why_slower"]

SMALLEST = 2**20  # elements of x; below, launching costs more than passes over memory


def dwconv_gelu_pool(
    x: Tensor, weight: Tensor, bias: Tensor, *, approximate: str = "none"
) -> tuple[Tensor, Tensor]:
    """y = GELU(u) and its channel means, where u is the depthwise 3x3 convolution of x, plus bias.

    The middle of a DiCo block (arXiv 2505.11196, figure 4): the means feed its channel attention.

    Args:
        x: [B, C, H, W], padded with zeros. The kernel needs it channels-last.
        weight: [C, 1, 3, 3].
        bias: [C].
        approximate: "none" for the exact GELU, "tanh" for its approximation (at most 4.8e-4 off).

    Returns:
        y [B, C, H, W] and the means [B, C] of y over height and width, both in the type of x. The
        kernel computes in float32, the definition in that type.

    Raises:
        UsageError: a shape, type, device or `approximate` that does not fit; names the argument.
    """
    check_tensors(x=x, weight=weight, bias=bias)
    x, weight, bias = autocast_inputs(x, weight, bias)
    reference.check_arguments(x, weight, bias, approximate)
    if choice.kernel_chosen(
        "dwconv_gelu_pool",
        refusal(x, weight, bias, approximate=approximate),
        why_slower(x, weight, bias, approximate=approximate),
    ):
        return operator.forward(x, weight, bias, approximate == "tanh")
    return reference.dwconv_gelu_pool(x, weight, bias, approximate)


def refusal(x: Tensor, weight: Tensor, bias: Tensor, *, approximate: str = "none") -> str | None:
    """Why the kernel cannot run on these arguments; None if it can."""
    if not x.is_contiguous(memory_format=torch.channels_last):
        return "x is not channels-last"
    return choice.refusal_of_tensors(x, weight, bias)


def why_slower(x: Tensor, weight: Tensor, bias: Tensor, *, approximate: str = "none") -> str | None:
    """Why the kernel would not be faster on these arguments; None where it may.

    Does not quote the sizes: a compiled model would then be one of these sizes only.
    """
    if x.numel() < SMALLEST:
        return f"x has fewer than {SMALLEST} elements"
    return choice.why_slower_on_device(x)
