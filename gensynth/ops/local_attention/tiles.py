"""How many keys each way of local attention looks at, and the blocks of tile-ordered attention.

Counts are of keys per query on average, those of a tile or block that a disc cuts included: what
the matrix products cost.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gensynth.ops.local_attention.launches import LAUNCHES, Tile

TILE: Tile = (8, 16)  # of tile-ordered attention: 128 tokens, a block of FlexAttention
BLOCK = TILE[0] * TILE[1]


@dataclass(frozen=True)
class TouchedKeys:
    """Keys per query in a square image, on average.

    Attributes:
        seen: in the disc.
        floating: of the kernel, whose tiles of keys start where the discs of its queries do.
        aligned: of tile-ordered attention, whose tiles lie on one grid.
        raster: of blocks of tokens that follow each other row by row.
    """

    side: int
    window: int
    seen: float
    floating: float
    aligned: float
    raster: float


def touched_keys(side: int, window: int) -> TouchedKeys:
    """Counts of every way, of the kernel as shipped for 128 channels in 16 bits."""
    blocks = LAUNCHES["forward d128 16bit"].blocks
    return TouchedKeys(
        side,
        window,
        disc_pairs(side, side, window) / side**2,
        kernel_keys(
            side,
            side,
            window,
            (blocks["QUERY_ROWS"], blocks["QUERY_COLUMNS"]),
            (blocks["KEY_ROWS"], blocks["KEY_COLUMNS"]),
        ),
        tiled_keys(side, side, window),
        raster_keys(side, side, window),
    )


def disc_pairs(height: int, width: int, window: int) -> int:
    """Pairs of a query and a key in its disc, in an image."""
    pairs = 0
    for dy in range(min(window, height)):
        # the largest dx with dx^2 + dy^2 < window^2, a distance of `window` being outside
        reach = math.isqrt(window**2 - 1 - dy**2)
        across = sum(width - dx for dx in range(1, min(reach, width - 1) + 1))
        pairs += (height - dy) * (width + 2 * across) * (2 if dy else 1)
    return pairs


def kernel_keys(height: int, width: int, window: int, queries: Tile, keys: Tile) -> float:
    """Keys per query of the kernels, which cover the discs of a tile of queries with a box."""

    def covered(size: int, step: int, key_step: int) -> list[int]:
        first = [max(start - window + 1, 0) for start in range(0, size, step)]
        last = [min(start + step + window - 2, size - 1) for start in range(0, size, step)]
        return [-(-(b - a + 1) // key_step) * key_step for a, b in zip(first, last, strict=True)]

    down, across = covered(height, queries[0], keys[0]), covered(width, queries[1], keys[1])
    return sum(down) * sum(across) / (len(down) * len(across))


def tiled_keys(height: int, width: int, window: int) -> float:
    """Keys per query of tile-ordered attention."""
    partial, _, full, _ = block_lists(height, width, window, 0, torch.device("cpu"))
    return (partial + full).float().mean().item() * BLOCK


def raster_keys(height: int, width: int, window: int, block: int = BLOCK) -> float:
    """Keys per query in blocks of tokens that follow each other row by row."""
    tokens, touched = height * width, 0
    starts = range(0, tokens, block)
    for start in starts:
        seen: set[int] = set()
        last = min(start + block, tokens) - 1
        for y in range(start // width, last // width + 1):
            left, right = max(start - y * width, 0), min(last - y * width, width - 1)
            for key_y in range(max(y - window + 1, 0), min(y + window, height)):
                reach = math.isqrt(window**2 - 1 - (key_y - y) ** 2)
                first = key_y * width + max(left - reach, 0)
                final = key_y * width + min(right + reach, width - 1)
                seen.update(range(first // block, final // block + 1))
        touched += len(seen)
    return touched * block / len(starts)


def block_lists(
    height: int, width: int, window: int, tokens_everywhere: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which blocks of keys each tile of queries sees: partly, then those of which it sees all.

    Blocks of keys are those of the keys seen everywhere, then the tiles of the image row by row.

    Returns:
        Counts int32 [tiles] and indices int32 [tiles, blocks], twice; an index beyond the count
        of its row means nothing.
    """
    (rows, columns), squared = TILE, window**2
    down, across = -(-height // rows), -(-width // columns)
    reach_y = min((window + rows - 2) // rows, down - 1)
    reach_x = min((window + columns - 2) // columns, across - 1)
    tile = torch.arange(down * across, device=device)[:, None]
    offset_y, offset_x = (
        torch.arange(-reach, reach + 1, device=device) for reach in (reach_y, reach_x)
    )
    y = tile // across + offset_y.repeat_interleave(len(offset_x))
    x = tile % across + offset_x.repeat(len(offset_y))
    near_y, far_y = distances(tile // across, y, rows, height)
    near_x, far_x = distances(tile % across, x, columns, width)
    exists = (y >= 0) & (y < down) & (x >= 0) & (x < across)
    touched = exists & (near_y.square() + near_x.square() < squared)
    whole = (y * rows + rows <= height) & (x * columns + columns <= width)
    full = touched & whole & (far_y.square() + far_x.square() < squared)

    # Of the keys seen everywhere the last block may be partly padding, and then needs a mask.
    whole_blocks, rest = divmod(tokens_everywhere, BLOCK)
    first = whole_blocks + (rest > 0)
    keys = first + y * across + x
    shared = torch.arange(first, device=device, dtype=torch.int32)
    return (
        *listed(keys, touched & ~full, shared[whole_blocks:], first + len(tile)),
        *listed(keys, full, shared[:whole_blocks], first + len(tile)),
    )


def distances(tile: Tensor, other: Tensor, step: int, size: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest distance from a token of a tile to one of another, on one axis.

    Tokens of the other tile beyond `size` do not count.
    """
    first, other_first = tile * step, other * step
    other_last = (other_first + step - 1).clamp(max=size - 1)
    nearest = torch.maximum(other_first - first - step + 1, first - other_last).clamp(min=0)
    return nearest, torch.maximum(other_last - first, first + step - 1 - other_first)


def listed(keys: Tensor, keep: Tensor, shared: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Counts [tiles] and indices [tiles, width]: `shared`, then the kept of `keys` [tiles, n]."""
    # stable: the kept ones come first, and stay in their order
    order = keep.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    found = keys.gather(1, order).where(keep.gather(1, order), 0)[:, : width - len(shared)]
    indices = keys.new_zeros(len(keys), width, dtype=torch.int32)
    indices[:, : len(shared)] = shared
    indices[:, len(shared) : len(shared) + found.shape[1]] = found
    return (keep.sum(1) + len(shared)).to(torch.int32), indices
