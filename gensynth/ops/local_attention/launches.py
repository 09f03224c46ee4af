"""How the kernels of circular local attention are launched.

A key is a kernel, the channels a head is padded to, and the type: "forward d64 16bit". Tiles of
queries and keys are given in rows and columns of the image. What is shipped keeps everything in
registers on compute capabilities 8.0 and 9.0; with 4 warps 8 x 16 queries of 128 channels do not.
"""

import torch

from gensynth.ops.launches import Launch

WIDTHS = (16, 32, 64, 128)  # channels that a head is padded to

Tile = tuple[int, int]  # rows, columns


def disc(queries: Tile, keys: Tile, everywhere: int, warps: int = 8, stages: int = 2) -> Launch:
    """A kernel of a tile of queries: with `everywhere` keys at a time, then tiles of keys."""
    return Launch({**sides(queries, keys), "EVERYWHERE": everywhere}, warps, stages)


def stationary(keys: Tile, queries: Tile, warps: int = 8, stages: int = 2) -> Launch:
    """A kernel of a tile of keys, with tiles of queries."""
    return Launch(sides(queries, keys), warps, stages)


def shared(keys: int, queries: int, warps: int = 8, stages: int = 2) -> Launch:
    """A kernel of keys seen everywhere, with some queries at a time."""
    return Launch({"EVERYWHERE": keys, "QUERIES": queries}, warps, stages)


def sides(queries: Tile, keys: Tile) -> dict[str, int]:
    return {
        "QUERY_ROWS": queries[0],
        "QUERY_COLUMNS": queries[1],
        "KEY_ROWS": keys[0],
        "KEY_COLUMNS": keys[1],
    }


LAUNCHES: dict[str, Launch] = {
    "sum": Launch({"BLOCK": 1024}),
    "forward d16 16bit": disc((8, 16), (8, 8), 64),
    "forward d32 16bit": disc((8, 16), (8, 8), 64),
    "forward d64 16bit": disc((8, 16), (8, 8), 64),
    "forward d128 16bit": disc((8, 16), (8, 8), 32),
    "gradient_q d16 16bit": disc((8, 16), (8, 8), 64),
    "gradient_q d32 16bit": disc((8, 16), (8, 8), 64),
    "gradient_q d64 16bit": disc((8, 16), (4, 8), 32),
    "gradient_q d128 16bit": disc((8, 8), (8, 8), 64),
    "gradient_kv d16 16bit": stationary((8, 8), (8, 8)),
    "gradient_kv d32 16bit": stationary((8, 8), (8, 8)),
    "gradient_kv d64 16bit": stationary((8, 16), (4, 8)),
    "gradient_kv d128 16bit": stationary((8, 8), (8, 8)),
    "gradient_everywhere d16 16bit": shared(64, 64),
    "gradient_everywhere d32 16bit": shared(64, 64),
    "gradient_everywhere d64 16bit": shared(64, 64),
    "gradient_everywhere d128 16bit": shared(64, 64),
    "forward d16 32bit": disc((8, 8), (4, 8), 32),
    "forward d32 32bit": disc((8, 8), (4, 8), 32),
    "forward d64 32bit": disc((8, 8), (4, 8), 32),
    "forward d128 32bit": disc((4, 8), (4, 4), 16),
    "gradient_q d16 32bit": disc((4, 8), (4, 8), 32),
    "gradient_q d32 32bit": disc((4, 8), (4, 8), 32),
    "gradient_q d64 32bit": disc((4, 8), (4, 8), 32),
    "gradient_q d128 32bit": disc((4, 8), (4, 4), 16),
    "gradient_kv d16 32bit": stationary((4, 8), (4, 8)),
    "gradient_kv d32 32bit": stationary((4, 8), (4, 8)),
    "gradient_kv d64 32bit": stationary((4, 8), (4, 8)),
    "gradient_kv d128 32bit": stationary((4, 8), (4, 8), stages=1),
    "gradient_everywhere d16 32bit": shared(32, 32),
    "gradient_everywhere d32 32bit": shared(32, 32),
    "gradient_everywhere d64 32bit": shared(32, 32),
    "gradient_everywhere d128 32bit": shared(32, 16, warps=4),
}


def key_of(kernel: str, head_dim: int, dtype: torch.dtype) -> str:
    """The key of a kernel for heads of `head_dim` channels."""
    width = next(width for width in WIDTHS if width >= head_dim)
    return f"{kernel} d{width} {8 * dtype.itemsize}bit"


def candidates(key: str) -> list[Launch]:
    """Launches of `key` worth measuring."""
    if key == "sum":
        return [Launch({"BLOCK": size}, warps) for size in (512, 1024, 2048) for warps in (4, 8)]
    if key.startswith("gradient_everywhere"):
        return [
            shared(keys, queries, warps, stages)
            for keys, queries in ((32, 32), (64, 32), (64, 64), (128, 64))
            for warps in (4, 8)
            for stages in (2, 3)
        ]
    tiles = [((8, 8), (4, 8)), ((8, 8), (8, 8)), ((8, 16), (4, 8)), ((8, 16), (8, 8))]
    if key.startswith("gradient_kv"):
        return [
            stationary(keys, queries, warps, stages)
            for keys, queries in tiles
            for warps in (4, 8)
            for stages in (2, 3)
        ]
    return [
        disc(queries, keys, everywhere, warps, stages)
        for queries, keys in [*tiles, ((8, 16), (8, 16))]
        for everywhere in (32, 64)
        for warps in (4, 8)
        for stages in (2, 3)
    ]
