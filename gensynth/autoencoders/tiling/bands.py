"""Pictures of any size between pixels and latents, in tiles; row bands of pixels come out."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from gensynth.autoencoders.tiling.chain import Rows, Segment, segments
from gensynth.autoencoders.tiling.codecs import decoder_of, encoder_of
from gensynth.autoencoders.tiling.tiles import Tiles
from gensynth.errors import UsageError


def decode_bands(codec: Any, latents: Rows, tiles: Tiles) -> Iterator[Tensor]:
    """A picture as uint8 [B, C, rows, W] from top to bottom; only one of them is kept.

    The same function as `codec.decode` if the tiles overlap as far as the networks look
    (`default_tiles`): group norms and linear attention use the whole picture's numbers, which are
    gathered before; softmax attention runs on the whole picture at its low resolution.

    Args:
        latents: [B, C, h, w], or tokens [B, h, w]; a tensor, or what reads windows from a disk.

    Raises:
        UsageError: a codec, or a layer of one, that is not known to work in tiles; a token that the
            codebook does not have.
    """
    height, width = latents.shape[-2:]
    yield from _through(segments(decoder_of(codec), 1), latents, (height, width), tiles)


def decode_tiled(codec: Any, latents: Rows, tiles: Tiles) -> Tensor:
    """`decode_bands` as one picture, uint8 [B, C, H, W]."""
    return _together(decode_bands(codec, latents, tiles), latents.shape[-2] * codec.patch)


def encode_tiled(codec: Any, images: Rows | Iterable[Tensor], tiles: Tiles) -> Tensor:
    """What `codec.encode` makes of a picture without random numbers.

    Args:
        images: uint8 [B, C, H, W], or bands [B, C, rows, W] of it from top to bottom, which are
            kept as they are.

    Raises:
        UsageError: sides that are no multiples of `codec.patch`; a codec, or a layer of one, that
            is not known to work in tiles.
    """
    whole = hasattr(images, "shape")
    pixels = cast(Rows, images) if whole else Bands(cast(Iterable[Tensor], images))
    height, width = pixels.shape[-2:]
    if height % codec.patch or width % codec.patch:
        raise UsageError(
            f"the picture has {height}x{width} pixels, and this autoencoder takes multiples of "
            f"{codec.patch}; crop it to {height // codec.patch * codec.patch}x"
            f"{width // codec.patch * codec.patch}."
        )
    size = (height // codec.patch, width // codec.patch)
    bands = _through(segments(encoder_of(codec), codec.patch), pixels, size, tiles)
    latents = _together(bands, size[0])
    if latents.ndim == 4:
        latents = latents.contiguous(memory_format=torch.channels_last)  # as encode gives them
    return latents


class Bands:
    """Row bands of a picture, read as if they were one tensor."""

    def __init__(self, bands: Iterable[Tensor]):
        self.bands = list(bands)
        if not self.bands:
            raise UsageError("there are no bands of pixels to encode.")
        rows = sum(band.shape[-2] for band in self.bands)
        first = self.bands[0].shape
        self.shape = (*first[:-2], rows, first[-1])

    def __getitem__(self, key: tuple[slice, ...]) -> Tensor:
        *every, rows, columns = key
        begin, stop, _ = rows.indices(self.shape[-2])
        parts, top = [], 0
        for band in self.bands:
            height = band.shape[-2]
            inside = slice(max(begin - top, 0), min(stop - top, height))
            if inside.start < inside.stop:
                parts.append(band[(*every, inside, columns)])
            top += height
        return torch.cat(parts, dim=-2)


def _through(
    chain: list[Segment], source: Rows, size: tuple[int, int], tiles: Tiles
) -> Iterator[Tensor]:
    """Bands of the chain's output; what is before its last segment is made whole."""
    *firsts, last = chain
    for segment in firsts:
        whole = size[0] * segment.units[-1]
        source = _together(_run(segment, source, size, tiles), whole)
    yield from _run(last, source, size, tiles)


def _run(segment: Segment, source: Rows, size: tuple[int, int], tiles: Tiles) -> Iterator[Tensor]:
    height, width = size
    if segment.mixes:
        tiles = Tiles(max(size), 0)
    segment.gather(source, tiles.of(height, width), size, tiles)
    unit = segment.units[-1]
    for rows in tiles.bands(height):
        band: Tensor | None = None
        for columns in tiles.bands(width):
            made = segment.run(source, (rows, columns), size, tiles)
            if band is None:
                band = made.new_empty(*made.shape[:-1], width * unit)
            band[..., columns[0] * unit : columns[1] * unit] = made
        assert band is not None, "a picture without columns"
        yield band


def _together(bands: Iterator[Tensor], height: int) -> Tensor:
    """Bands as one tensor, with no more than one of them beside it."""
    whole: Tensor | None = None
    top = 0
    for band in bands:
        if whole is None:
            whole = band.new_empty(*band.shape[:-2], height, band.shape[-1])
        whole[..., top : top + band.shape[-2], :] = band
        top += band.shape[-2]
    assert whole is not None, "a picture without rows"
    return whole
