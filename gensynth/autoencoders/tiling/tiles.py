"""How a picture is cut into tiles."""

from dataclasses import dataclass
from itertools import product
from typing import Any

from gensynth.autoencoders.tiling.chain import Corner, Window, segments
from gensynth.autoencoders.tiling.codecs import stages_of
from gensynth.errors import UsageError

SIDE_IN_PIXELS = 512  # of a tile, if nobody says otherwise


@dataclass(frozen=True)
class Tiles:
    """Squares that a picture is decoded or encoded in, in latent rows (`codec.patch` pixels each).

    Args:
        side: of the square that a tile gives.
        overlap: how far around it a tile may look, at most. With as much as the networks look, the
            tiles give what the whole picture gives, up to rounding; with less there are seams.

    Raises:
        UsageError: no square, or less than no overlap.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if self.side < 1 or self.overlap < 0:
            raise UsageError(
                "tiles need a side of at least 1 and an overlap of at least 0 latent rows, got "
                f"{self.side} and {self.overlap}."
            )

    def bands(self, height: int) -> list[Window]:
        """Rows of tiles in a picture of so many latent rows."""
        return [(top, min(top + self.side, height)) for top in range(0, height, self.side)]

    def of(self, height: int, width: int) -> list[Corner]:
        """Every tile of a picture, in latent rows and columns, in reading order."""
        return list(product(self.bands(height), self.bands(width)))


def default_tiles(codec: Any) -> Tiles:
    """Tiles of about 512 pixels that look as far as the codec's networks do, so without seams.

    Raises:
        UsageError: a codec, or a layer of one, that is not known to work in tiles.
    """
    return Tiles(max(1, SIDE_IN_PIXELS // codec.patch), reach(codec))


def reach(codec: Any) -> int:
    """How far the codec's networks look beyond a tile, in latent rows, at most.

    Found from the kernels, strides and upsamplings of its layers. What the whole picture decides
    (statistics of group norms, attention) is not counted: it is worked out for the whole picture.
    """
    chains = stages_of(codec)
    return max(part.reach() for stages, unit in chains for part in segments(stages, unit))
