"""Softmax attention: every token sees every other, at a cost quadratic in their number."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.models.layers.positions import Placed
from gensynth.ops.attention import attention


class SoftmaxAttention(nn.Module):
    """Multi-head self-attention (arXiv 1706.03762), as in DiT."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        q, k, v = (split_heads(x, self.num_heads) for x in self.qkv(tokens).chunk(3, dim=-1))
        q, k = grid.rotate(q), grid.rotate(k)
        output = attention(q, k, v, self.bias(grid))
        return self.proj(merge_heads(output))

    def bias(self, grid: Grid) -> Tensor | None:
        """What is added to the scores."""
        return None


class BiasedSoftmaxAttention(SoftmaxAttention, Placed):
    """With a learned bias for each head and offset between two tokens (BEiT, arXiv 2106.08254).

    Args:
        grid_size: height and width in tokens at which the table has an entry for each offset.
    """

    placed = ("bias_table",)

    def __init__(self, hidden_size: int, num_heads: int, grid_size: tuple[int, int]):
        super().__init__(hidden_size, num_heads)
        self.grid_size = grid_size
        offsets = (2 * grid_size[0] - 1) * (2 * grid_size[1] - 1)
        # Three more rows, for a class token, are in the published tables and never used.
        self.bias_table = nn.Parameter(torch.zeros(offsets + 3, num_heads))

    def bias(self, grid: Grid) -> Tensor:
        """[1 or B, H, N or K, N or K]; for another grid the table is interpolated."""
        table: Tensor = self.bias_table
        if (grid.height, grid.width) != self.grid_size:
            table = resized_bias(table, self.grid_size, (grid.height, grid.width))
        assert grid.relative is not None
        index = grid.relative
        if grid.kept is not None:
            index = index[grid.kept[:, :, None], grid.kept[:, None, :]]  # [B, K, K]
        return table[index].movedim(-1, -3)

    def resampled(self, table: Tensor, before: tuple[int, int]) -> Tensor:
        own = resized_bias(table, before, self.grid_size)
        return torch.cat([own, table[-3:]])  # the rows that are never used


def resized_bias(table: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """A bias table of one grid, interpolated for another: [(2h - 1) * (2w - 1), H]."""
    sides = [2 * side - 1 for side in before]
    image = table[: sides[0] * sides[1]].unflatten(0, sides).permute(2, 0, 1)[None]
    target = (2 * after[0] - 1, 2 * after[1] - 1)
    # [1, H, 2h - 1, 2w - 1]; with the corners aligned the largest offsets stay at the edges
    image = F.interpolate(image, target, mode="bicubic", align_corners=True)
    return image[0].flatten(1).transpose(0, 1)


def relative_index(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Which entry of a bias table each pair of tokens takes, int64 [N, N]."""
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    row_offset = rows[:, None] - rows[None, :] + height - 1
    column_offset = columns[:, None] - columns[None, :] + width - 1
    # offsets counted from 0, then numbered row by row: [h, w, h, w] -> [N, N]
    index = row_offset[:, None, :, None] * (2 * width - 1) + column_offset[None, :, None, :]
    return index.flatten(2).flatten(0, 1)
