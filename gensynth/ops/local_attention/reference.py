"""The definition of circular local attention in plain PyTorch (CLEAR, arXiv 2412.16112).

The image is cut into tiles; the queries of a tile see the keys of the tile and of the border around
it, and a mask of that size cuts out the discs. Time and memory grow linearly with the image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.linear_attention.reference import check_shapes
from gensynth.ops.precision import without_autocast

# Of the keys, values and masks of the tiles of one image that are looked at together. Not of the
# batch: the number of pieces would change with it, and a compiled model with the number.
WORKING_BYTES = 256 * 2**20


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    height: int,
    width: int,
    window: int,
    text_length: int = 0,
    down_factor: int = 1,
    pool_weight: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention in which an image query sees its neighbourhood only.

    An image query sees the image tokens at a squared distance below `window`^2 (strictly), all
    text tokens, and with `down_factor` above 1 all pooled image tokens. A text query sees every
    text and image token, but no pooled one.

    Args:
        q, k, v: [B, H, text_length + height * width, D]; text first, then the image row by row.
        window: radius of the disc in tokens, at least 1 (the token itself).
        down_factor: side of the squares of tokens that are pooled into further keys and values.
        pool_weight: [down_factor, down_factor] weights of that pooling; none for the mean.
        scale: factor on q·k; none for 1 / sqrt(D).

    Returns:
        [B, H, text_length + height * width, D].

    Raises:
        UsageError: a shape, window or factor that does not fit; names the argument.
    """
    check_arguments(q, k, v, height, width, window, text_length, down_factor, pool_weight)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    with without_autocast(q):
        output = in_float32(
            q.float(),
            k.float(),
            v.float(),
            (height, width),
            window,
            text_length,
            pooling(q, down_factor, pool_weight),
            scale,
        )
    return output.to(q.dtype)


def pooling(q: Tensor, down_factor: int, pool_weight: Tensor | None) -> Tensor | None:
    """The weights [down_factor, down_factor] of pooled keys; none if there are no such keys."""
    if down_factor == 1:
        return None
    if pool_weight is None:
        shape = (down_factor, down_factor)
        return torch.full(shape, down_factor**-2, device=q.device)
    return pool_weight.float()


def in_float32(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    size: tuple[int, int],
    window: int,
    text_length: int,
    pool_weight: Tensor | None,
    scale: float,
) -> Tensor:
    """`local_attention` on checked float32 tensors."""
    height, width = size
    text_q, image_q = q.split([text_length, height * width], dim=2)
    (text_k, image_k), (text_v, image_v) = (
        x.split([text_length, height * width], dim=2) for x in (k, v)
    )
    everywhere_k, everywhere_v = text_k, text_v  # what every image query sees
    if pool_weight is not None:
        pooled_k, pooled_v = (pool(x, height, width, pool_weight) for x in (image_k, image_v))
        everywhere_k = torch.cat([text_k, pooled_k], dim=2)
        everywhere_v = torch.cat([text_v, pooled_v], dim=2)
    image_q, image_k, image_v = (
        x.unflatten(2, (height, width)) for x in (image_q, image_k, image_v)
    )
    image = disc_attention(image_q, image_k, image_v, everywhere_k, everywhere_v, window, scale)
    image = image.flatten(2, 3)
    if text_length == 0:
        return image
    text = F.scaled_dot_product_attention(text_q, k, v, scale=scale)
    return torch.cat([text, image], dim=2)


def pool(tokens: Tensor, height: int, width: int, weight: Tensor) -> Tensor:
    """Weighted sums over squares of tokens: [B, H, height * width, D] -> [B, H, cells, D]."""
    side = weight.shape[0]
    squares = tokens.unflatten(2, (height // side, side, width // side, side))
    return torch.einsum("bhiajcd,ac->bhijd", squares, weight).flatten(2, 3)


def disc_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    everywhere_k: Tensor,
    everywhere_v: Tensor,
    window: int,
    scale: float,
) -> Tensor:
    """Image queries, keys and values [B, H, height, width, D] -> [B, H, height, width, D].

    `everywhere_k` and `everywhere_v` [B, H, E, D] are seen by every query.
    """
    batch, heads, height, width, dim = q.shape
    side = min(max(window, 4), 32)  # of a tile; a window's width wastes least
    border = min(window - 1, max(height, width) - 1)
    down, right = -height % side, -width % side  # so that tiles fill the image
    tiled_q = tiles(F.pad(q, (0, 0, 0, right, 0, down)), side, side)
    padding = (0, 0, border, border + right, border, border + down)
    tiled_k, tiled_v = (tiles(F.pad(x, padding), side, side + 2 * border) for x in (k, v))
    mask = disc_mask(height, width, window, side, border, q.device)

    rows, columns = mask.shape[:2]
    keys = mask.shape[-1] + everywhere_k.shape[2]
    bytes_of_row = columns * (8 * heads * keys * dim + side**2 * keys)
    together = max(1, min(rows, WORKING_BYTES // bytes_of_row))
    outputs = []
    for first in range(0, rows, together):
        part = slice(first, first + together)
        outputs.append(
            attend(
                tiled_q[part],
                with_everywhere(tiled_k[part], everywhere_k),
                with_everywhere(tiled_v[part], everywhere_v),
                F.pad(mask[part], (0, everywhere_k.shape[2]), value=True),
                scale,
            )
        )
    output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    output = output.reshape(rows, columns, batch, heads, side, side, dim)
    output = output.permute(2, 3, 0, 4, 1, 5, 6)
    output = output.reshape(batch, heads, rows * side, columns * side, dim)
    return output[:, :, :height, :width]


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
    mask = mask.flatten(0, 1).unsqueeze(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def disc_mask(
    height: int, width: int, window: int, side: int, border: int, device: torch.device
) -> Tensor:
    """Which keys each query of each tile sees, bool [rows, columns, side^2, (side + 2 border)^2].

    Queries beyond the image see everything: their result is cut off, but must not be NaN.
    """
    query, key = (torch.arange(n, device=device) for n in (side, side + 2 * border))
    squared = (query[:, None] + border - key[None, :]).square()
    near = (squared[:, None, :, None] + squared[None, :, None, :]) < window**2

    def inside(size: int, count: int, shift: int) -> Tensor:
        start = torch.arange(0, size, side, device=device)[:, None]
        place = start + torch.arange(count, device=device) - shift
        return (place >= 0) & (place < size)

    real = (
        inside(height, side + 2 * border, border)[:, None, :, None]
        & inside(width, side + 2 * border, border)[None, :, None, :]
    )
    beyond = ~(inside(height, side, 0)[:, None, :, None] & inside(width, side, 0)[None, :, None, :])
    return (near.flatten(2).flatten(0, 1) & real.flatten(2)[:, :, None, :]) | beyond.flatten(2)[
        ..., None
    ]


def check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height: int,
    width: int,
    window: int,
    text_length: int,
    down_factor: int,
    pool_weight: Tensor | None,
) -> None:
    """Refuses what does not fit together.

    Raises:
        UsageError: names the argument, its value and what was expected.
    """
    check_shapes(q, k, v)
    tokens = text_length + height * width
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.shape[2] != tokens:
            raise UsageError(
                f"{name} has {tensor.shape[2]} tokens, but text_length {text_length} + height "
                f"{height} * width {width} is {tokens}."
            )
    if not isinstance(window, int) or window < 1:
        raise UsageError(f"window must be a whole number from 1, got {window!r}.")
    if down_factor < 1 or height % down_factor or width % down_factor:
        raise UsageError(
            f"down_factor {down_factor} must divide the height {height} and the width {width}."
        )
    if pool_weight is not None and pool_weight.shape != (down_factor, down_factor):
        raise UsageError(
            f"pool_weight must be [{down_factor}, {down_factor}], got {list(pool_weight.shape)}."
        )
