"""Pictures that come from top to bottom into files, so that none is ever whole in memory."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngInfo

from gensynth.data.streams.png import write_png
from gensynth.data.streams.regroup import Shape as Shape
from gensynth.data.streams.tiff import write_tiff
from gensynth.errors import UsageError
from gensynth.files import temporary_for

TIFF = (".tif", ".tiff")
ENDINGS = (".png", *TIFF)


def write_bands(
    path: Path,
    bands: Iterable[np.ndarray],
    shape: Shape,
    texts: PngInfo | None = None,
    description: str | None = None,
    icc: bytes | None = None,
    pyramid: bool = False,
) -> None:
    """Writes a picture that comes in bands [.., W, C] uint8, as PNG or BigTIFF by the name's end.

    The file gets its name when it is complete and on the disk; after an error nothing is left.

    Args:
        texts: for PNG, its chunks of text.
        description: for TIFF, its image description.
        icc: a colour profile; without it colours are those of sRGB.
        pyramid: for TIFF, whether smaller copies come along, which viewers show first.

    Raises:
        UsageError: a name that ends otherwise; bands that are not those of such a picture.
        OSError: the disk is full or the folder not writable.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(
            f"pictures are written band by band as {', '.join(ENDINGS)} only, got {path.name!r}."
        )
    if pyramid and ending not in TIFF:
        raise UsageError(f"only TIFF holds a pyramid; name the picture {path.stem}.tif.")
    temporary = temporary_for(path)
    try:
        if ending in TIFF:
            write_tiff(temporary, bands, shape, description, icc, pyramid)
        else:
            with temporary.open("wb") as stream:
                write_png(stream, bands, shape, texts, icc)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
