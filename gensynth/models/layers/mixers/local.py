"""Circular local attention (CLEAR, arXiv 2412.16112)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.models.layers.checks import check_whole
from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.ops import local_attention
from gensynth.ops.precision import without_autocast


class LocalAttention(nn.Module):
    """Softmax attention to the tokens nearer than `window`, and to pooled tokens.

    Args:
        window: radius of the disc in tokens; a distance of exactly `window` is outside.
        down_factor: side of the squares that are pooled, with learned weights, into keys and
            values seen from everywhere; 1 for none.
    """

    def __init__(self, hidden_size: int, num_heads: int, window: int = 8, down_factor: int = 1):
        super().__init__()
        check_whole(window=window, down_factor=down_factor)
        self.num_heads, self.window, self.down_factor = num_heads, window, down_factor
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        if down_factor > 1:
            # starts as the mean of a square
            shares = torch.full((down_factor, down_factor), down_factor**-2)
            self.pool_weight = nn.Parameter(shares)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        q, k, v = (split_heads(x, self.num_heads) for x in self.qkv(tokens).chunk(3, dim=-1))
        q, k = grid.rotate(q), grid.rotate(k)
        if grid.kept is None:
            output = self.attend(q, k, v, grid, q.shape[-1] ** -0.5)
        else:
            output = self.attend_kept(q, k, v, grid)
        output = merge_heads(output).to(tokens.dtype)
        return self.proj(grid.only_kept(output))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid, scale: float) -> Tensor:
        return local_attention(
            q,
            k,
            v,
            height=grid.height,
            width=grid.width,
            window=self.window,
            down_factor=self.down_factor,
            pool_weight=self.pool_weight if self.down_factor > 1 else None,
            scale=scale,
        )

    def attend_kept(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
        """Attention on the whole grid in which missing tokens are never attended to."""
        head_dim = q.shape[-1]  # before the further coordinate, which must not change the scale
        q, k, v = self.with_missing(q, k, v, grid)
        with without_autocast(q):  # which would cast to a half precision
            return self.attend(q, k, v, grid, head_dim**-0.5)[..., :head_dim]

    def with_missing(
        self, q: Tensor, k: Tensor, v: Tensor, grid: Grid
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Kept tokens [B, H, K, D] on the whole grid, where missing ones are never attended to.

        One further coordinate, 1 in every query and very negative in the missing keys, lowers
        their scores as a mask would.
        """
        if self.down_factor > 1:
            raise ValueError("mixer 'local' with down_factor above 1 cannot leave tokens out")
        assert grid.kept is not None
        q, k, v = q.float(), k.float(), v.float()  # half precision has no such number
        places = grid.kept[:, None, :, None]

        def spread(x: Tensor, missing: float) -> Tensor:
            whole = x.new_full((*x.shape[:2], grid.height * grid.width, x.shape[3]), missing)
            return whole.scatter(2, places.expand_as(x), x)

        present = k.new_zeros(*k.shape[:3], 1)
        q = F.pad(spread(q, 0.0), (0, 1), value=1.0)
        k = torch.cat([spread(k, 0.0), spread(present, -1e9)], dim=-1)
        return q, k, F.pad(spread(v, 0.0), (0, 1))
