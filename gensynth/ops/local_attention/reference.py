"""The definition of circular local attention in plain PyTorch (CLEAR, arXiv 2412.16112).

The image is cut into tiles; the queries of a tile see the keys of the tile and of the border around
it, and a mask of that size cuts out the discs. Time and memory grow linearly with the image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.ops.local_attention.composition import compose
from gensynth.ops.precision import without_autocast

# Of the keys, values and masks of the tiles of one image that are looked at together. Not of the
# batch: the number of pieces would change with it, and a compiled model with the number.
WORKING_BYTES = 256 * 2**20
# On a CPU smaller pieces stay nearer to its caches. Not where there are gradients: there each piece
# costs a pass over all tiles.
CPU_BYTES = 64 * 2**20


def local_attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """`gensynth.ops.local_attention` on checked arguments, all of which are given.

    Computed in float32, float64 if that is the type of q; also under autocast.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    with without_autocast(q):
        output = compose(attend_disc, q.to(wide), k.to(wide), v.to(wide), **options)
    return output.to(q.dtype)


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
    dim = q.shape[3]
    q, k, v = (x.unflatten(2, (height, width)) for x in (q, k, v))
    side = min(max(window, 4), 32)  # of a tile; a window's width wastes least
    border = min(window - 1, max(height, width) - 1)
    down, right = -height % side, -width % side  # so that tiles fill the image
    # [rows, columns, B, H, side, side, D]
    tiled_q = tiles(F.pad(q, (0, 0, 0, right, 0, down)), side, side)
    padding = (0, 0, border, border + right, border, border + down)
    tiled_k, tiled_v = (tiles(F.pad(x, padding), side, side + 2 * border) for x in (k, v))

    rows, columns, batch, heads = tiled_q.shape[:4]
    keys = (side + 2 * border) ** 2 + everywhere_k.shape[2]
    # A mask is of bool and, in the attention of PyTorch, of float32.
    bytes_of_tile = 8 * heads * keys * dim + 5 * side**2 * keys
    outputs = []
    for part in pieces(rows, columns, max(1, working_bytes(q) // bytes_of_tile)):
        mask = disc_mask(height, width, window, side, border, part, q.device)
        # keys seen everywhere come last, and are seen
        mask = F.pad(mask, (0, everywhere_k.shape[2]), value=True)
        part_k = with_everywhere(tiled_k[part], everywhere_k)
        part_v = with_everywhere(tiled_v[part], everywhere_v)
        outputs.append(attend(tiled_q[part], part_k, part_v, mask, scale))
    # Tiles back into an image: [B, H, rows, side, columns, side, D], without what was padded.
    output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    output = output.reshape(rows, columns, batch, heads, side, side, dim)
    output = output.permute(2, 3, 0, 4, 1, 5, 6)
    output = output.reshape(batch, heads, rows * side, columns * side, dim)
    return output[:, :, :height, :width].flatten(2, 3)


def working_bytes(q: Tensor) -> int:
    """What pieces may take; the result is the same to the bit whatever it is."""
    small = q.device.type == "cpu" and not torch.is_grad_enabled()
    return min(WORKING_BYTES, CPU_BYTES) if small else WORKING_BYTES


def pieces(rows: int, columns: int, most: int) -> list[tuple[slice, slice]]:
    """Parts of rows x columns, in order: of at most `most` tiles, whole rows if they fit."""
    across = min(columns, most)
    down = max(1, most // columns)
    return [
        (slice(row, min(row + down, rows)), slice(column, min(column + across, columns)))
        for row in range(0, rows, down)
        for column in range(0, columns, across)
    ]


def tiles(image: Tensor, step: int, side: int) -> Tensor:
    """Views of squares, `step` apart: [B, H, h, w, D] -> [rows, columns, B, H, side, side, D]."""
    return image.unfold(2, side, step).unfold(3, side, step).permute(2, 3, 0, 1, 5, 6, 4)


def with_everywhere(tiled: Tensor, everywhere: Tensor) -> Tensor:
    """Keys or values of tiles, and those seen everywhere: [rows, columns, B, H, keys, D]."""
    tiled = tiled.flatten(4, 5)
    shared = everywhere.expand(*tiled.shape[:2], -1, -1, -1, -1)
    return torch.cat([tiled, shared], dim=4) if shared.shape[4] else tiled


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Masked attention in tiles: [tiles, B * H, queries, D]."""
    q = q.flatten(4, 5)
    q, k, v = (x.flatten(2, 3).flatten(0, 1) for x in (q, k, v))
    mask = mask.flatten(0, 1).unsqueeze(1)  # the same for every image and head of a tile
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def disc_mask(
    height: int,
    width: int,
    window: int,
    side: int,
    border: int,
    part: tuple[slice, slice],
    device: torch.device,
) -> Tensor:
    """Which keys each query of some tiles sees, bool [rows, columns, side^2, (side + 2 border)^2].

    Queries beyond the image see everything: their result is cut off, but must not be NaN.
    """
    query, key = (torch.arange(n, device=device) for n in (side, side + 2 * border))
    # a tile's first query stands `border` keys behind its first key
    squared = (query[:, None] + border - key[None, :]).square()
    near = (squared[:, None, :, None] + squared[None, :, None, :]) < window**2

    def inside(size: int, tiles: slice, count: int, shift: int) -> Tensor:
        start = torch.arange(tiles.start, tiles.stop, device=device)[:, None] * side
        place = start + torch.arange(count, device=device) - shift
        return (place >= 0) & (place < size)

    down, across = part
    real = (
        inside(height, down, side + 2 * border, border)[:, None, :, None]
        & inside(width, across, side + 2 * border, border)[None, :, None, :]
    )
    beyond = ~(
        inside(height, down, side, 0)[:, None, :, None]
        & inside(width, across, side, 0)[None, :, None, :]
    )
    return (near.flatten(2).flatten(0, 1) & real.flatten(2)[:, :, None, :]) | beyond.flatten(2)[
        ..., None
    ]
