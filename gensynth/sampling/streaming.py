"""Pictures too large for memory on disk, with their recipe inside, written as they are decoded."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gensynth.data.streams import Shape, write_bands
from gensynth.sampling.outputs import png_chunks, reporting_write_errors


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
        pyramid: for TIFF, whether smaller copies come along.

    Raises:
        UsageError: a name that ends otherwise, or bands of another picture.
        OutputError: the disk is full or the folder is not writable.
    """
    texts = None if recipe is None else png_chunks(recipe)
    description = None if recipe is None else json.dumps(recipe)
    with reporting_write_errors(path.parent):
        write_bands(path, pixels_of(bands), shape, texts, description, icc, pyramid)


def pixels_of(bands: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """Bands [1, C, rows, W] of one picture as arrays [rows, W, C]."""
    for band in bands:
        (picture,) = band
        yield picture.permute(1, 2, 0).contiguous().cpu().numpy()
