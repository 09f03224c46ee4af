"""The resizes that published distances are made with; none of them is one of PyTorch's."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def tf1_bilinear(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Floats [..., *size], as TensorFlow 1's `resize_bilinear` makes them, bit for bit.

    No half-pixel centres and no antialiasing: output pixel i lies at i * (input / output) of the
    input (tensorflow, core/kernels/image/resize_bilinear_op.cc). Of the right size already, the
    pixels come back as they are.

    Args:
        images: floats [..., H, W].
        size: height and width.
    """
    # Columns first, as there; a row that is not needed is cheaper than one computed twice.
    return _resized(_resized(images, -1, size[1]), -2, size[0])


def _resized(images: Tensor, dim: int, size: int) -> Tensor:
    length = images.shape[dim]
    if length == size:
        return images
    # float32 throughout: the positions of TensorFlow are.
    scale = torch.tensor(length / size, dtype=torch.float32)
    position = torch.arange(size, dtype=torch.float32) * scale
    lower = position.long()  # floor: positions are never negative
    upper = (lower + 1).clamp(max=length - 1)
    share = (position - lower).to(images).view((-1,) + (1,) * (-1 - dim))
    first = images.index_select(dim, lower.to(images.device))
    second = images.index_select(dim, upper.to(images.device))
    # in this form, as TensorFlow computes it: the other order rounds differently
    return first + (second - first) * share


def clean_bicubic(images: Tensor, size: int) -> Tensor:
    """uint8 [B, C, H, W] -> float32 [B, C, size, size] in 0..255, not rounded: clean-fid's resize.

    Pillow's antialiased bicubic filter on each channel as floats (arXiv 2104.11222; clean-fid,
    cleanfid/resize.py, make_resizer). Computed on the CPU, returned on the images' device.
    """
    channels = images.flatten(0, 1).cpu().numpy().astype(np.float32)
    resized = [
        np.asarray(Image.fromarray(channel).resize((size, size), Image.Resampling.BICUBIC))
        for channel in channels
    ]
    pixels = torch.from_numpy(np.stack(resized).clip(0, 255))
    return pixels.unflatten(0, images.shape[:2]).to(images.device)
