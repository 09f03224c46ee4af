"""The definition of depthwise convolution, GELU and channel means in plain PyTorch."""

import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.checks import check_alike
from gensynth.ops.precision import without_autocast

APPROXIMATIONS = ("none", "tanh")


def dwconv_gelu_pool(
    x: Tensor, weight: Tensor, bias: Tensor, approximate: str
) -> tuple[Tensor, Tensor]:
    """As `gensynth.ops.dwconv_gelu_pool` on checked arguments, in the type of x as published."""
    with without_autocast(x):
        u = F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])
        y = F.gelu(u, approximate=approximate)
        return y, y.mean(dim=(2, 3))


def check_arguments(x: Tensor, weight: Tensor, bias: Tensor, approximate: str) -> None:
    """Refuses what does not fit together.

    Raises:
        UsageError: names the argument, its shape or value and what was expected.
    """
    if x.dim() != 4 or 0 in x.shape[1:]:
        raise UsageError(
            f"x must be [B, C, H, W] with C, H and W from 1, got shape {list(x.shape)}."
        )
    channels = x.shape[1]
    for name, tensor, shape in (
        ("weight", weight, (channels, 1, 3, 3)),
        ("bias", bias, (channels,)),
    ):
        if tensor.shape != shape:
            raise UsageError(
                f"{name} must be {list(shape)} for x {list(x.shape)}, got {list(tensor.shape)}."
            )
    if not x.is_floating_point():
        raise UsageError(f"x must be of a floating type, got {x.dtype}.")
    check_alike(x=x, weight=weight, bias=bias)
    if approximate not in APPROXIMATIONS:
        raise UsageError(
            f"approximate must be one of {', '.join(APPROXIMATIONS)}, got {approximate!r}."
        )
