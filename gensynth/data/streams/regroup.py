"""Row bands of a picture in other heights, and at half the size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gensynth.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """Rows, columns and channels (1 or 3) of a picture of 8 bits."""

    height: int
    width: int
    channels: int

    def half(self) -> "Shape":
        """Half as many rows and columns; an odd last one counts."""
        return Shape((self.height + 1) // 2, (self.width + 1) // 2, self.channels)


def strips(bands: Iterable[np.ndarray], rows: int, shape: Shape) -> Iterator[np.ndarray]:
    """A picture's bands [.., W, C] of any heights, in strips of `rows`; the last may be lower.

    Raises:
        UsageError: the bands are not those of a picture of this shape.
    """
    strip = np.empty((rows, shape.width, shape.channels), np.uint8)
    filled = done = 0
    for band in bands:
        if band.shape[1:] != (shape.width, shape.channels) or band.dtype != np.uint8:
            raise UsageError(
                f"a band of {band.shape[1:]} {band.dtype} was given for a picture of "
                f"{shape.width} columns and {shape.channels} channels of uint8."
            )
        done += len(band)
        if done > shape.height:
            break
        while len(band):
            part = band[: rows - filled]
            strip[filled : filled + len(part)] = part
            filled, band = filled + len(part), band[len(part) :]
            if filled == rows:
                yield strip
                # not the same memory: who reads may still be at work on it in a thread
                strip, filled = np.empty_like(strip), 0
    if done != shape.height:
        some = "more than" if done > shape.height else f"{done} of"
        raise UsageError(f"the bands have {some} the picture's {shape.height} rows.")
    if filled:
        yield strip[:filled]


def halved(rows: np.ndarray) -> np.ndarray:
    """uint8 [h, W, C] at half the size: means of squares of four, rounded half up.

    An odd last row or column is taken twice.
    """
    down, right = rows.shape[0] % 2, rows.shape[1] % 2
    if down or right:
        rows = np.pad(rows, ((0, down), (0, right), (0, 0)), mode="edge")
    total = rows[0::2, 0::2].astype(np.uint16)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        total += rows[row::2, column::2]
    return ((total + 2) // 4).astype(np.uint8)
