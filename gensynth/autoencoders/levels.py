"""Pixel values <-> [-1, 1]."""

import torch
from torch import Tensor


def from_levels(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_levels(pixels: Tensor) -> Tensor:
    """Floats -> uint8, rounded half up as DiT does (floor of 127.5 x + 128)."""
    # + 128 = + 127.5 + 0.5: the cast cuts off, so the half rounds
    return (127.5 * pixels.float() + 128).clamp(0, 255).to(torch.uint8)


def as_floats(pixels: Tensor) -> Tensor:
    """Floats in [-1, 1] -> floats in 0..255, not rounded."""
    return 127.5 * (pixels + 1)
