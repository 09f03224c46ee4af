"""Between latents and pixels of pictures of any size: large ones in tiles, with the same result."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gensynth.autoencoders.tiling import decode_bands, decode_tiled, default_tiles, encode_tiled

LARGE = 2**21  # pixels; smaller pictures are decoded whole, which is quicker


def is_large(size: tuple[int, int]) -> bool:
    """Whether a picture of height and width in pixels is decoded in tiles."""
    return math.prod(size) > LARGE


def pixels_of(codec: Any, latents: Tensor) -> Tensor:
    """Pictures uint8 [B, C, H, W] of latents [B, c, h, w] or tokens [B, h, w].

    Large ones one after another and in tiles, at most one grey level from the whole.

    Raises:
        UsageError: a large picture of a codec that is not known to work in tiles.
    """
    if not is_large(sides(codec, latents)):
        whole: Tensor = codec.decode(latents)
        return whole
    tiles = default_tiles(codec)
    return torch.cat([decode_tiled(codec, one, tiles) for one in latents.split(1)])


def bands_of(codec: Any, latents: Tensor) -> Iterator[Tensor]:
    """One picture, of latents [1, c, h, w], as bands uint8 [1, C, rows, W] from top to bottom."""
    if is_large(sides(codec, latents)):
        return decode_bands(codec, latents, default_tiles(codec))
    return iter([codec.decode(latents)])


def latents_of(codec: Any, pixels: Tensor) -> Tensor:
    """Latents [1, c, h, w] of a picture uint8 [1, C, H, W], without random numbers."""
    height, width = pixels.shape[-2:]
    if not is_large((height, width)):
        whole: Tensor = codec.encode(pixels)
        return whole
    return encode_tiled(codec, pixels, default_tiles(codec))


def sides(codec: Any, latents: Tensor) -> tuple[int, int]:
    """Height and width in pixels."""
    height, width = latents.shape[-2:]
    return height * codec.patch, width * codec.patch
