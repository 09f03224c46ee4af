"""How far a picture that is decoded in tiles is from the one decoded whole, by the tiles' overlap.

    python tools/decode_seams.py [--autoencoder taef2] [--size 512] [--side 16]

The latents are those of bundled emoji side by side, and random ones.
"""

import argparse
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from torch import Tensor

from gensynth.autoencoders import open_autoencoder
from gensynth.autoencoders.tiling import Tiles, decode_tiled, default_tiles
from gensynth.data.images import decode
from gensynth.data.tables import BUNDLED

SIDE_OF_EMOJI = 128


def emoji(size: int) -> Tensor:
    """Emoji side by side, uint8 [1, 3, size, size]."""
    table = pyarrow.parquet.read_table(BUNDLED / "emoji" / "test.parquet", columns=["image"])
    count = -(-size // SIDE_OF_EMOJI)
    stored = table["image"].slice(0, count**2).to_pylist()
    pictures = [
        np.asarray(decode(entry["bytes"]).resize((SIDE_OF_EMOJI, SIDE_OF_EMOJI)))
        for entry in stored
    ]
    rows = [np.concatenate(pictures[at : at + count], 1) for at in range(0, count**2, count)]
    whole = torch.from_numpy(np.concatenate(rows)[:size, :size])
    return whole.permute(2, 0, 1)[None].contiguous()


def largest(codec: Any, latents: Tensor, whole: Tensor, tiles: Tiles) -> int:
    """The largest difference in grey levels of 255."""
    return int((decode_tiled(codec, latents, tiles).int() - whole.int()).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--autoencoder", default="taef2")
    parser.add_argument("--size", type=int, default=512, help="side of the picture in pixels")
    parser.add_argument("--side", type=int, default=16, help="of the tiles, in latent rows")
    asked = parser.parse_args()
    codec = open_autoencoder(asked.autoencoder, "kl")
    encoded = codec.encode(emoji(asked.size))
    drawn = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(0))
    default = default_tiles(codec).overlap
    wholes = [(latents, codec.decode(latents)) for latents in (encoded, drawn)]
    print(f"{asked.autoencoder}, {asked.size} pixels, tiles of {asked.side} latent rows")
    print(f"{'overlap':>8} {'emoji':>6} {'noise':>6}   largest deviation, of 255")
    for overlap in sorted({default, default // 2, default // 4, 2, 0}, reverse=True):
        tiles = Tiles(asked.side, overlap)
        found = [largest(codec, latents, whole, tiles) for latents, whole in wholes]
        told = "  (default)" if overlap == default else ""
        print(f"{overlap:>8} {found[0]:>6} {found[1]:>6}{told}")


if __name__ == "__main__":
    main()
