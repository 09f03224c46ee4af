"""Pictures too large for memory on disk, with their recipe inside, written as they are decoded."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gensynth.data.streams import TIFF, Shape, write_bands
from gensynth.sampling.texts import png_chunks, reporting_write_errors


def save_bands(
    bands: Iterable[Tensor],
    path: Path,
    shape: Shape,
    recipe: dict[str, Any] | None,
    icc: bytes | None = None,
    pyramid: bool = False,
) -> None:
    """Writes one picture that comes in bands, uint8 [1, C, rows, W], as `decode_bands` gives them.

    Args:
        path: ends in .png (texts as `save_picture` writes them) or .tif (BigTIFF, whose image
            description is the recipe as JSON).
        icc: a colour profile; without it colours are those of sRGB.
        pyramid: whether smaller copies come along, where the file can hold them (TIFF).

    Raises:
        UsageError: a name that ends otherwise, or bands of another picture.
        OutputError: the disk is full or the folder is not writable.
    """
    _write(pixels_of(bands), path, shape, recipe, icc, pyramid)


def save_array(
    pixels: np.ndarray, path: Path, recipe: dict[str, Any] | None, icc: bytes | None
) -> None:
    """`save_bands` of a picture that is whole, uint8 [H, W] or [H, W, C]; a TIFF has a pyramid."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    _write([pixels], path, Shape(*pixels.shape), recipe, icc, pyramid=True)


def _write(
    bands: Iterable[np.ndarray],
    path: Path,
    shape: Shape,
    recipe: dict[str, Any] | None,
    icc: bytes | None,
    pyramid: bool,
) -> None:
    texts = None if recipe is None else png_chunks(recipe)
    description = None if recipe is None else json.dumps(recipe)  # ASCII, as the tag asks
    pyramid = pyramid and path.suffix.lower() in TIFF
    with reporting_write_errors(path.parent):
        write_bands(path, bands, shape, texts, description, icc, pyramid)


def pixels_of(bands: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """Bands [1, C, rows, W] of one picture as arrays [rows, W, C]."""
    for band in bands:
        (picture,) = band
        yield picture.permute(1, 2, 0).contiguous().cpu().numpy()
