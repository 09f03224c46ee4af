"""BigTIFF from row bands, in compressed tiles, with smaller copies for viewers; by tifffile."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tifffile import TiffWriter

from gensynth.data.streams.regroup import Shape, halved, strips

SIDE = 256  # of a tile, in pixels
BUFFER = 2**23  # bytes that are compressed at once


def write_tiff(
    path: Path,
    bands: Iterable[np.ndarray],
    shape: Shape,
    description: str | None = None,
    icc: bytes | None = None,
    pyramid: bool = False,
) -> None:
    """Writes bands [.., W, C] uint8 from top to bottom.

    Args:
        description: ASCII, for the tag ImageDescription.
        pyramid: whether pictures of half the size, of a quarter and so on come along (as SubIFDs),
            down to a single tile. Until they are written they lie uncompressed in unnamed files
            beside `path`, a third of the picture's bytes at most.

    Raises:
        UsageError: the bands are not those of a picture of this shape.
        OSError: as writing does.
    """
    levels = _levels(shape) if pyramid else []
    options: dict[str, Any] = {
        "dtype": np.uint8,
        "tile": (SIDE, SIDE),
        "photometric": "rgb" if shape.channels == 3 else "minisblack",
        "compression": "zlib",
        "predictor": True,
        "iccprofile": icc,
        "metadata": None,  # else tifffile describes the array in place of the recipe
        "software": "gensynth",
        "buffersize": BUFFER,
        "maxworkers": 1,
    }
    with TiffWriter(path, bigtiff=True) as writer:
        below: BinaryIO | None = None
        for number, level in enumerate([shape, *levels]):
            source = bands if below is None else _rows_in(below, level)
            above, below = below, _unnamed(path) if number < len(levels) else None
            first: dict[str, Any] = {"subfiletype": 1}
            if number == 0:
                first = {"description": description, "subifds": len(levels)}
            rows = strips(source, SIDE, level)
            size: tuple[int, ...] = (level.height, level.width, level.channels)
            if level.channels == 1:
                size = size[:2]
            writer.write(_tiles(rows, level, below), shape=size, **options, **first)
            # tifffile asks for no more than it needs; here the bands may turn out to be too many
            surplus = next(rows, None)
            assert surplus is None
            if above is not None:
                above.close()


def _levels(shape: Shape) -> list[Shape]:
    levels = []
    while max(shape.height, shape.width) > SIDE:
        shape = shape.half()
        levels.append(shape)
    return levels


def _unnamed(path: Path) -> BinaryIO:
    """A file without a name on the same disk, which is gone when it is closed or we are killed."""
    return tempfile.TemporaryFile(dir=path.parent)


def _tiles(
    rows: Iterator[np.ndarray], shape: Shape, half_to: BinaryIO | None
) -> Iterator[np.ndarray]:
    """Tiles in reading order; the strips at half the size go to `half_to`."""
    for strip in rows:
        if half_to is not None:
            half_to.write(halved(strip).tobytes())
        for left in range(0, shape.width, SIDE):
            tile = strip[:, left : left + SIDE]
            yield np.ascontiguousarray(tile if shape.channels == 3 else tile[..., 0])


def _rows_in(stored: BinaryIO, shape: Shape) -> Iterator[np.ndarray]:
    """Strips that `_tiles` has stored."""
    stored.seek(0)
    bytes_of_row = shape.width * shape.channels
    while content := stored.read(SIDE * bytes_of_row):
        yield np.frombuffer(content, np.uint8).reshape(-1, shape.width, shape.channels)
