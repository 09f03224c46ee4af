"""Circular local attention (CLEAR, arXiv 2412.16112) around the attention of its image queries.

The definition and every faster way differ in `disc_attention` alone: what is refused, text queries
and pooled keys are the same, and written here once.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.checks import check_alike, check_tensors
from gensynth.ops.linear_attention.reference import check_shapes
from gensynth.ops.precision import without_autocast

LARGEST_WINDOW = 2**15  # beyond any image; its square fits 32 bits


class DiscAttention(Protocol):
    """Attention of image queries to the keys in their disc and to keys seen everywhere."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        everywhere_k: Tensor,
        everywhere_v: Tensor,
        height: int,
        width: int,
        window: int,
        scale: float,
    ) -> Tensor:
        """[B, H, height * width, D], twice [B, H, E, D] -> [B, H, height * width, D]."""


def compose(
    disc_attention: DiscAttention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    height: int,
    width: int,
    window: int,
    text_length: int,
    down_factor: int,
    pool_weight: Tensor | None,
    scale: float | None,
) -> Tensor:
    """`local_attention` on checked arguments, computed in the type of q, k and v."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    lengths = [text_length, height * width]
    text_q, image_q = q.split(lengths, dim=2)  # text comes first
    everywhere_k, image_k = k.split(lengths, dim=2)
    everywhere_v, image_v = v.split(lengths, dim=2)
    with without_autocast(q):
        if down_factor > 1:
            weight = pooling(q, down_factor, pool_weight)
            everywhere_k = torch.cat([everywhere_k, pool(image_k, height, width, weight)], dim=2)
            everywhere_v = torch.cat([everywhere_v, pool(image_v, height, width, weight)], dim=2)
        image = disc_attention(
            image_q, image_k, image_v, everywhere_k, everywhere_v, height, width, window, scale
        )
        if text_length == 0:
            return image
        # k and v as given: a text query sees no pooled key
        text = F.scaled_dot_product_attention(text_q, k, v, scale=scale)
        return torch.cat([text, image], dim=2)


def pooling(like: Tensor, down_factor: int, pool_weight: Tensor | None) -> Tensor:
    """The weights [down_factor, down_factor] of pooled keys, in the type of `like`."""
    if pool_weight is None:
        return like.new_full((down_factor, down_factor), down_factor**-2)
    return pool_weight.to(like.dtype)


def pool(tokens: Tensor, height: int, width: int, weight: Tensor) -> Tensor:
    """Weighted sums over squares of tokens: [B, H, height * width, D] -> [B, H, cells, D]."""
    side = weight.shape[0]
    # [B, H, h / side, side, w / side, side, D]
    squares = tokens.unflatten(2, (height // side, side, width // side, side))
    return torch.einsum("bhiajcd,ac->bhijd", squares, weight).flatten(2, 3)


def check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    height: int,
    width: int,
    window: int,
    text_length: int,
    down_factor: int,
    pool_weight: Tensor | None,
) -> None:
    """Refuses what does not fit together.

    Raises:
        UsageError: names the argument, its value and what was expected.
    """
    check_shapes(q, k, v)
    check_alike(q=q, k=k, v=v)
    if not q.is_floating_point():
        raise UsageError(f"q must be of a floating type, got {q.dtype}.")
    if q.shape[3] < 1:
        raise UsageError(f"q must have heads of a width from 1, got shape {list(q.shape)}.")
    if v.shape[3] != q.shape[3]:
        raise UsageError(f"v must have the width of q, {q.shape[3]}, got {v.shape[3]}.")
    check_whole("height", height, 1)
    check_whole("width", width, 1)
    check_whole("window", window, 1)
    if window > LARGEST_WINDOW:
        raise UsageError(f"window must be at most {LARGEST_WINDOW}, got {window}.")
    check_whole("text_length", text_length, 0)
    check_whole("down_factor", down_factor, 1)
    tokens = text_length + height * width
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.shape[2] != tokens:
            raise UsageError(
                f"{name} has {tensor.shape[2]} tokens, but text_length {text_length} + height "
                f"{height} * width {width} is {tokens}."
            )
    if height % down_factor or width % down_factor:
        raise UsageError(
            f"down_factor {down_factor} must divide the height {height} and the width {width}."
        )
    check_pool_weight(pool_weight, down_factor, q)


def check_pool_weight(pool_weight: Tensor | None, down_factor: int, q: Tensor) -> None:
    """Refuses weights of another shape or device than needed.

    Raises:
        UsageError: names the argument, its value and what was expected.
    """
    if pool_weight is None:
        return
    check_tensors(pool_weight=pool_weight)
    if not pool_weight.is_floating_point():
        raise UsageError(f"pool_weight must be of a floating type, got {pool_weight.dtype}.")
    if pool_weight.shape != (down_factor, down_factor):
        raise UsageError(
            f"pool_weight must be [{down_factor}, {down_factor}], got {list(pool_weight.shape)}."
        )
    if pool_weight.device != q.device:
        raise UsageError(
            f"pool_weight must be on the device of q, {q.device}, got {pool_weight.device}."
        )


def check_whole(name: str, value: int, least: int) -> None:
    """Refuses what is not a whole number from `least`.

    Raises:
        UsageError: names the argument.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name} must be a whole number from {least}, got {value!r}.")


def check_scale(scale: float | None) -> None:
    """Refuses anything that is not a number.

    Raises:
        UsageError: names the argument.
    """
    if scale is not None and not isinstance(scale, int | float | torch.SymInt | torch.SymFloat):
        raise UsageError(f"scale must be a number or None, got {scale!r}.")
