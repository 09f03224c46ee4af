"""Decodes random latents of any size into a file, and says what memory it took above the model.

    python tools/decode_peak.py --size 16384 --out picture.tif [--pyramid] [--bands 3]

The latents are drawn when a tile asks for them, so that only the decoder's memory is measured.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from torch import Tensor

from gensynth.autoencoders import open_autoencoder
from gensynth.autoencoders.tiling import decode_bands, default_tiles
from gensynth.data.streams import Shape
from gensynth.sampling.streaming import save_bands
from gensynth_benchmarks.highres import RandomLatents
from gensynth_benchmarks.machine import peak_gib


def first_bands(bands: Iterator[Tensor], number: int, shape: Shape) -> Iterator[Tensor]:
    """So many bands, the last of them again and again until the picture is full."""
    top = 0
    for _ in range(number):
        band = next(bands)
        top += band.shape[-2]
        yield band
    while top < shape.height:
        band = band[..., : shape.height - top, :]
        top += band.shape[-2]
        yield band


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1024, help="side of the picture in pixels")
    parser.add_argument("--autoencoder", default="taef2")
    parser.add_argument("--out", type=Path, help="ends in .tif or .png; left out: a passing one")
    parser.add_argument("--pyramid", action="store_true", help="with smaller copies (TIFF)")
    parser.add_argument("--bands", type=int, help="decode so many bands, and repeat the last")
    asked = parser.parse_args()
    codec = open_autoencoder(asked.autoencoder, "kl")
    channels, height, width = codec.latent_shape(asked.size, asked.size)
    tiles, shape = default_tiles(codec), Shape(asked.size, asked.size, codec.channels)
    with tempfile.TemporaryDirectory() as folder:
        out = asked.out or Path(folder) / "picture.tif"
        before = psutil.Process().memory_info().rss / 2**30
        bands = decode_bands(codec, RandomLatents(channels, height, width), tiles)
        if asked.bands:
            bands = first_bands(bands, asked.bands, shape)
        save_bands(bands, out, shape, {"prompt": "noise", **RECIPE}, pyramid=asked.pyramid)
        after = peak_gib("cpu")
        found = {"size": asked.size, "side": tiles.side, "overlap": tiles.overlap}
        found |= {"above_the_model_gib": round(after - before, 3), "peak_gib": round(after, 3)}
        print(json.dumps(found | {"file_bytes": out.stat().st_size}))


SQUARE = 64  # of latents that are drawn together
RECIPE = {"size": [0, 0], "steps": 0, "scheduler": "none", "guidance": 1, "seed": 0, "model": "-"}

if __name__ == "__main__":
    main()
