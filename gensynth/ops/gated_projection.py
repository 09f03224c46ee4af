"""A 1x1 convolution between a scale and a gate, added to a residual."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops import choice
from gensynth.ops.checks import check_alike
from gensynth.ops.dwconv_gelu_pool import SMALLEST
from gensynth.ops.precision import autocast_inputs


def gated_projection(
    residual: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor,
    scale: Tensor | None = None,
) -> Tensor:
    """residual + gate * (weight (scale * hidden) + bias), as at the ends of a DiCo block.

    Args:
        residual: [B, C, H, W]. May be of a wider type than the rest; then the result is too.
        hidden: [B, D, H, W].
        weight: [C, D, 1, 1].
        bias: [C].
        gate: [B, C].
        scale: [B, D]; None for 1.

    Returns:
        [B, C, H, W], computed step by step or, where `why_not_fold` has no objection, with scale
        and gate folded into a matrix for each sample: two passes over memory fewer.

    Raises:
        UsageError: a shape, type or device that does not fit; names the argument.
    """
    hidden, weight, bias, gate = autocast_inputs(hidden, weight, bias, gate)
    if scale is not None:
        (scale,) = autocast_inputs(scale)
    check_arguments(residual, hidden, weight, bias, gate, scale)
    objection = why_not_fold(residual, hidden, weight, bias, gate, scale)
    if objection is not None or choice.mode() == "reference":
        return step_by_step(residual, hidden, weight, bias, gate, scale)
    return folded(residual, hidden, weight, bias, gate, scale)


def why_not_fold(residual: Tensor, hidden: Tensor, *others: Tensor | None) -> str | None:
    """Why folding would not be faster; None where it may be.

    On a GPU this is predicted from the passes over memory, not measured. On a CPU (one thread,
    float32) folding was measured 0.7 to 1.7 times as fast: slower for single small images.
    """
    if residual.device.type != "cuda":
        return f"the device is {residual.device.type}"
    size = residual.shape[2] * residual.shape[3]
    given = [x for x in (residual, hidden, *others) if x is not None]
    if torch.is_grad_enabled() and any(x.requires_grad for x in given):
        return "a gradient is needed"
    if residual.dtype != hidden.dtype:
        return "residual and hidden are of different types"
    if not all(x.is_contiguous(memory_format=torch.channels_last) for x in (residual, hidden)):
        return "residual or hidden is not channels-last"
    if size <= 2 * residual.shape[1]:
        return "there are not twice as many positions as channels"
    if residual.numel() < SMALLEST:
        return f"residual has fewer than {SMALLEST} elements"
    return None


def step_by_step(
    residual: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor,
    scale: Tensor | None,
) -> Tensor:
    if scale is not None:
        hidden = hidden * scale[:, :, None, None]
    return torch.addcmul(residual, gate[:, :, None, None], F.conv2d(hidden, weight, bias))


def folded(
    residual: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor,
    scale: Tensor | None,
) -> Tensor:
    """residual + gate * bias + (diag(gate) weight diag(scale)) hidden, all channels-last."""
    # [B, C, D], made in float32: two factors would be rounded twice
    matrix = gate.unsqueeze(2).to(torch.promote_types(gate.dtype, torch.float32))
    matrix = matrix * weight.flatten(1)
    if scale is not None:
        matrix = matrix * scale.unsqueeze(1)
    # [B, H * W, C], views of channels-last images
    tokens, start = (x.permute(0, 2, 3, 1).flatten(1, 2) for x in (hidden, residual))
    start = torch.addcmul(start, gate.unsqueeze(1), bias)
    # In place: out of place, the GPU would first copy `start` to where the product is added.
    result = start.baddbmm_(tokens, matrix.to(hidden.dtype).transpose(1, 2))
    return result.unflatten(1, residual.shape[2:]).permute(0, 3, 1, 2)


def check_arguments(
    residual: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor,
    scale: Tensor | None,
) -> None:
    """Refuses what does not fit together.

    Raises:
        UsageError: names the argument, its shape and what was expected.
    """
    for name, image in (("residual", residual), ("hidden", hidden)):
        if image.dim() != 4:
            raise UsageError(f"{name} must be [B, C, H, W], got shape {list(image.shape)}.")
    batch, outer, height, width = residual.shape
    inner = hidden.shape[1]
    for name, tensor, shape in (
        ("hidden", hidden, (batch, inner, height, width)),
        ("weight", weight, (outer, inner, 1, 1)),
        ("bias", bias, (outer,)),
        ("gate", gate, (batch, outer)),
        ("scale", scale, (batch, inner)),
    ):
        if tensor is not None and tensor.shape != shape:
            raise UsageError(
                f"{name} must be {list(shape)} for residual {list(residual.shape)} and hidden "
                f"{list(hidden.shape)}, got {list(tensor.shape)}."
            )
    check_alike(hidden=hidden, weight=weight, bias=bias, gate=gate, scale=scale)
    if residual.device != hidden.device:
        raise UsageError(
            f"residual must be on the device of hidden, {hidden.device}, got {residual.device}."
        )
