"""Local attention by FlexAttention of PyTorch on tokens in the order of tiles: a peer to measure.

`gensynth.ops.local_attention` never takes this way. It is compiled: FlexAttention that is not
compiled makes the scores of all pairs.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from gensynth.ops.local_attention.composition import check_arguments, compose
from gensynth.ops.local_attention.tiles import BLOCK, TILE, block_lists
from gensynth.ops.precision import autocast_inputs

Attention = Callable[..., Tensor]


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    text_length: int = 0,
    down_factor: int = 1,
    pool_weight: Tensor | None = None,
    scale: float | None = None,
    **sizes: int,
) -> Tensor:
    """`gensynth.ops.local_attention` by compiled FlexAttention, in the type of q, k and v.

    On CUDA; without gradients also on a CPU with a C++ compiler. Compiled anew for every image
    size, window and number of keys seen everywhere; torch.compile limits how often, and
    `torch.compiler.reset()` starts again.

    Raises:
        UsageError: as `gensynth.ops.local_attention`.
    """
    q, k, v = autocast_inputs(q, k, v)
    options: dict[str, Any] = {
        "text_length": text_length,
        "down_factor": down_factor,
        "pool_weight": pool_weight,
        **sizes,
    }
    check_arguments(q, k, v, **options)
    return compose(attend_disc, q, k, v, scale=scale, **options)


def attend_disc(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    everywhere_k: Tensor,
    everywhere_v: Tensor,
    height: int,
    width: int,
    window: int,
    scale: float,
) -> Tensor:
    """Attention of image queries, [B, H, height * width, D]."""
    tokens_everywhere = everywhere_k.shape[2]
    padding = (0, 0, 0, -tokens_everywhere % BLOCK)
    keys, values = (
        torch.cat([F.pad(shared, padding), to_tiles(x, height, width)], dim=2)
        for shared, x in ((everywhere_k, k), (everywhere_v, v))
    )
    mask = block_mask(height, width, window, tokens_everywhere, q.device)
    queries = to_tiles(q, height, width)
    output = compiled()(queries, keys, values, block_mask=mask, scale=scale)
    return from_tiles(output, height, width)


@functools.cache
def compiled() -> Attention:
    # Whole or not at all: beyond torch.compile's limit it would run as it is.
    return torch.compile(flex_attention, fullgraph=True)


@functools.lru_cache(maxsize=8)
def block_mask(
    height: int, width: int, window: int, tokens_everywhere: int, device: torch.device
) -> BlockMask:
    """The mask of tiles of queries [tiles of the image] x keys [seen everywhere, tiles].

    From geometry, in int32 [tiles, tiles]: `create_block_mask` would look at each pair of tokens.
    """
    lists = block_lists(height, width, window, tokens_everywhere, device)
    counts, indices, full_counts, full_indices = (x[None, None] for x in lists)
    return BlockMask.from_kv_blocks(
        counts,
        indices,
        full_counts,
        full_indices,
        BLOCK_SIZE=BLOCK,
        mask_mod=visible(height, width, window, tokens_everywhere),
    )


def visible(height: int, width: int, window: int, tokens_everywhere: int) -> Attention:
    """Whether a query sees a key, given their numbers in the order of tiles."""
    padded = tokens_everywhere + -tokens_everywhere % BLOCK
    across = -(-width // TILE[1])

    def place(token: Tensor) -> tuple[Tensor, Tensor]:
        tile, inner = token // BLOCK, token % BLOCK
        y = tile // across * TILE[0] + inner // TILE[1]
        return y, tile % across * TILE[1] + inner % TILE[1]

    def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        (query_y, query_x), (key_y, key_x) = place(query), place(key - padded)
        dy, dx = query_y - key_y, query_x - key_x
        near = (dy * dy + dx * dx < window * window) & (key_y < height) & (key_x < width)
        # numbers from tokens_everywhere to padded are filling, and seen by nobody
        return (key < tokens_everywhere) | ((key >= padded) & near)

    return mask_mod


def to_tiles(x: Tensor, height: int, width: int) -> Tensor:
    """[B, H, height * width, D] -> [B, H, tiles * 128, D], zeros beyond the image."""
    image = x.unflatten(2, (height, width))
    image = F.pad(image, (0, 0, 0, -width % TILE[1], 0, -height % TILE[0]))
    # [B, H, tiles down, 8, tiles across, 16, D], then tiles before the tokens inside them
    tiles = image.unflatten(3, (-1, TILE[1])).unflatten(2, (-1, TILE[0]))
    return tiles.transpose(3, 4).flatten(2, 5)


def from_tiles(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `to_tiles`."""
    across = -(-width // TILE[1])
    tiles = x.unflatten(2, (-1, across, *TILE)).transpose(3, 4)
    return tiles.flatten(4, 5).flatten(2, 3)[:, :, :height, :width].flatten(2, 3)
