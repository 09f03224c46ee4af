"""Codecs in tiles: the same pictures as from the whole, in memory that does not grow with them."""

from gensynth.autoencoders.tiling.bands import decode_bands as decode_bands
from gensynth.autoencoders.tiling.bands import decode_tiled as decode_tiled
from gensynth.autoencoders.tiling.bands import encode_tiled as encode_tiled
from gensynth.autoencoders.tiling.defaults import default_tiles as default_tiles
from gensynth.autoencoders.tiling.pretrained import codec_of as codec_of
from gensynth.autoencoders.tiling.stored import StoredLatents as StoredLatents
from gensynth.autoencoders.tiling.tiles import Tiles as Tiles
