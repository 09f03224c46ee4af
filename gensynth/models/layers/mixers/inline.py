"""InLine attention: injective linear attention with a local residual (arXiv 2412.06590)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.ops import linear_attention
from gensynth.ops.precision import without_autocast


class InLineAttention(nn.Module):
    """Weights that sum to one by subtraction instead of division, plus a 3x3 of the values.

    The weights of the 3x3 are made for each image from the mean of its tokens.

    Args:
        num_prefix_tokens: tokens before the image's, such as a class token; the 3x3 skips them.
    """

    def __init__(self, hidden_size: int, num_heads: int, num_prefix_tokens: int = 0):
        super().__init__()
        self.num_heads, self.num_prefix_tokens = num_heads, num_prefix_tokens
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.kernel_in = nn.Conv1d(hidden_size, hidden_size, 1, groups=num_heads)
        self.kernel_out = nn.Conv1d(hidden_size, 9 * hidden_size, 1, groups=num_heads)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        q, k, values = self.qkv(tokens).chunk(3, dim=-1)
        q, k, v = (split_heads(x.float(), self.num_heads) for x in (q, k, values))
        with without_autocast(tokens):  # sums over all tokens
            output = merge_heads(injective(q, k, v, grid)).to(values.dtype)
        summary = tokens.mean(dim=1).unsqueeze(-1)
        # [B, C, 1] -> [B, 9C, 1] -> [B, C, 3, 3]
        kernel = self.kernel_out(F.gelu(self.kernel_in(summary))).view(*tokens.shape[::2], 3, 3)
        prefix, image = values.split(
            [self.num_prefix_tokens, tokens.shape[1] - self.num_prefix_tokens], dim=1
        )
        around = grid.to_tokens(own_convolution(grid.to_image(image), kernel))
        return self.proj(output + F.pad(around, (0, 0, prefix.shape[1], 0)))


def injective(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    """[B, H, N, D]: the mean of v weighted by 1 + s q·(k - mean k), s = 1 / sqrt(D) (eq. 5).

    As linear attention, with one feature more: 1 of each key and 1 - s q·mean k of a query, so that
    the normaliser is 1. Positions do not turn it.
    """
    scaled = q * q.shape[-1] ** -0.5
    # [B, H, N, 1]: what makes the weights of a query sum to one
    rest = 1 - scaled @ k.mean(dim=-2).unsqueeze(-1)

    def rotate(features: Tensor) -> Tensor:
        # the last feature is the constant one, which has no position
        turned, last = features.split([q.shape[-1], 1], dim=-1)
        return torch.cat([grid.rotate(turned), last], dim=-1)

    return linear_attention(
        torch.cat([scaled, rest], dim=-1),
        F.pad(k, (0, 1), value=1.0),
        v,
        feature="identity",
        eps=0.0,
        rotate=None if grid.rotary is None else rotate,
    )


def own_convolution(image: Tensor, kernel: Tensor) -> Tensor:
    """Each channel of each image convolved with its own 3x3: [B, C, H, W], [B, C, 3, 3].

    As nine shifted products: a grouped convolution with B * C groups is slower and, with a batch of
    another size, a different graph to a compiler.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (1, 1, 1, 1))
    shifted = [
        padded[..., row : row + height, column : column + width]
        * kernel[:, :, row, column, None, None]
        for row in range(3)
        for column in range(3)
    ]
    return sum(shifted[1:], start=shifted[0])
