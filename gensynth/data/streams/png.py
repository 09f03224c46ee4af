"""PNG from row bands (W3C PNG, third edition); Pillow writes one from a whole picture only."""

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from PIL.PngImagePlugin import PngInfo, putchunk

from gensynth.data.streams.regroup import Shape, strips

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 3: 2}
LEVEL = 6  # of zlib, as Pillow's
ROWS = 64  # filtered and compressed at once


def write_png(
    stream: BinaryIO,
    bands: Iterable[np.ndarray],
    shape: Shape,
    texts: PngInfo | None = None,
    icc: bytes | None = None,
) -> None:
    """Writes bands [.., W, C] uint8 from top to bottom, with chunks of text and a colour profile.

    Raises:
        UsageError: the bands are not those of a picture of this shape.
        OSError: as writing to the stream does.
    """
    stream.write(SIGNATURE)
    kind = COLOUR_TYPES[shape.channels]
    head = struct.pack(">IIBBBBB", shape.width, shape.height, 8, kind, 0, 0, 0)
    putchunk(stream, b"IHDR", head)
    if icc is not None:
        putchunk(stream, b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    for name, content, *_ in texts.chunks if texts is not None else []:
        putchunk(stream, name, content)
    packer = zlib.compressobj(LEVEL, strategy=zlib.Z_FILTERED)
    above = np.zeros((shape.width, shape.channels), np.uint8)
    for strip in strips(bands, ROWS, shape):
        packed = packer.compress(filtered(strip, above).tobytes())
        above = strip[-1]
        if packed:
            putchunk(stream, b"IDAT", packed)
    putchunk(stream, b"IDAT", packer.flush())
    putchunk(stream, b"IEND")


def filtered(rows: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Rows as they are compressed: uint8 [h, 1 + W * C], each behind the number of its filter.

    Each row takes the filter whose differences are smallest in sum, as the standard advises.

    Args:
        rows: uint8 [h, W, C].
        above: uint8 [W, C], the row before the first.
    """
    up = np.concatenate([above[None], rows[:-1]])
    left = np.pad(rows[:, :-1], ((0, 0), (1, 0), (0, 0)))
    corner = np.pad(up[:, :-1], ((0, 0), (1, 0), (0, 0)))
    flat = (len(rows), -1)
    best, choice, least = rows.reshape(flat).copy(), np.zeros(len(rows), np.uint8), _sums(rows)
    for number, guess in enumerate((left, up, _mean(left, up), _paeth(left, up, corner)), 1):
        rest = rows - guess  # modulo 256
        sums = _sums(rest)
        better = sums < least
        best[better], choice[better] = rest.reshape(flat)[better], number
        least = np.minimum(least, sums)
    return np.concatenate([choice[:, None], best], axis=1)


def _sums(rest: np.ndarray) -> np.ndarray:
    """Sums of the distances from 0, for which 255 is -1."""
    return np.abs(rest.view(np.int8).astype(np.int16)).sum(axis=(1, 2), dtype=np.int64)


def _mean(left: np.ndarray, up: np.ndarray) -> np.ndarray:
    return ((left.astype(np.uint16) + up) // 2).astype(np.uint8)


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Of the three neighbours the one nearest to left + up - corner."""
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    is_left = (to_left <= to_up) & (to_left <= to_corner)
    return np.where(is_left, left, np.where(to_up <= to_corner, up, corner))
