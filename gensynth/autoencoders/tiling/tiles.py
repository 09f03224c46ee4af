"""How a picture is cut into tiles."""

from dataclasses import dataclass
from itertools import product

from gensynth.autoencoders.tiling.field import Corner, Window
from gensynth.errors import UsageError


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
