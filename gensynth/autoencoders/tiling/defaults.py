"""Tiles that suit a codec: how far its networks look."""

from typing import Any

from gensynth.autoencoders.tiling.chain import segments
from gensynth.autoencoders.tiling.codecs import stages_of
from gensynth.autoencoders.tiling.tiles import Tiles

SIDE_IN_PIXELS = 512  # of a tile, if nobody says otherwise


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
