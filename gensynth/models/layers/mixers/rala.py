"""Rank-augmented linear attention (RALA, arXiv 2411.07635; qhfan/RALA, RALA.py)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.ops import linear_attention
from gensynth.ops.attention import attention
from gensynth.ops.linear_attention.reference import FEATURES
from gensynth.ops.precision import without_autocast


class RankAugmentedLinearAttention(nn.Module):
    """Linear attention whose keys count by how well the mean query fits them, and a gate.

    Rotary positions turn the numerator only; a depthwise 5x5 convolution of the values is added
    before the gate, which has no activation.

    Args:
        softmax: the published counterpart with softmax attention in the place of the linear one.
    """

    def __init__(self, hidden_size: int, num_heads: int, softmax: bool = False):
        super().__init__()
        self.num_heads, self.softmax = num_heads, softmax
        self.qkvo = nn.Linear(hidden_size, 4 * hidden_size)
        self.local_values = nn.Conv2d(hidden_size, hidden_size, 5, padding=2, groups=hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        *qkv, gate = self.qkvo(tokens).chunk(4, dim=-1)
        # of the values [B, N, C] as an image
        around = grid.to_tokens(self.local_values(grid.to_image(qkv[2])))
        q, k, v = (split_heads(x, self.num_heads) for x in qkv)
        if self.softmax:
            output = attention(grid.rotate(q), grid.rotate(k), v)
        else:
            output = rank_augmented(q, k, v, grid)
        return self.proj((merge_heads(output) + around) * gate)


def rank_augmented(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    """[B, H, N, D] -> [B, H, N, D]; keys weighted by N softmax(mean(q)·k / sqrt(D)) (eq. 5)."""
    phi_q, phi_k = FEATURES["elu1"](q.float()), FEATURES["elu1"](k.float())
    # [B, H, N, 1]
    fit = (phi_k * phi_q.mean(dim=-2, keepdim=True)).sum(dim=-1, keepdim=True)
    weight = torch.softmax(fit * q.shape[-1] ** -0.5, dim=-2) * k.shape[-2]
    rotate = None if grid.rotary is None else grid.rotate
    with without_autocast(q):  # the weights reach the number of tokens
        output = linear_attention(
            phi_q, phi_k * weight, v.float(), feature="identity", eps=1e-6, rotate=rotate
        )
    return output.to(v.dtype)


class RALABlock(nn.Module):
    """The whole published block on images: positional convolution, attention, feed-forward.

    Args:
        inner_size: width of the feed-forward.
        layer_scale: start value of the learned scales of both branches; None for no scales.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        inner_size: int,
        layer_scale: float | None = 1e-6,
        softmax: bool = False,
    ):
        super().__init__()
        self.position = nn.Conv2d(hidden_size, hidden_size, 3, padding=1, groups=hidden_size)
        self.norm_attention = nn.LayerNorm(hidden_size, eps=1e-6)
        self.attention = RankAugmentedLinearAttention(hidden_size, num_heads, softmax)
        self.norm_mlp = nn.LayerNorm(hidden_size, eps=1e-6)
        self.mlp_in = nn.Linear(hidden_size, inner_size)
        self.depthwise = nn.Conv2d(inner_size, inner_size, 3, padding=1, groups=inner_size)
        self.mlp_out = nn.Linear(inner_size, hidden_size)
        self.scale_attention, self.scale_mlp = (
            None if layer_scale is None else nn.Parameter(torch.full((hidden_size,), layer_scale))
            for _ in range(2)
        )

    def forward(self, image: Tensor, grid: Grid) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        tokens = grid.to_tokens(image + self.position(image))  # [B, N, C]
        branch = self.attention(self.norm_attention(tokens), grid)
        tokens = tokens + (
            branch if self.scale_attention is None else self.scale_attention * branch
        )
        hidden = F.gelu(self.mlp_in(self.norm_mlp(tokens)))
        hidden = hidden + grid.to_tokens(self.depthwise(grid.to_image(hidden)))
        branch = self.mlp_out(hidden)
        tokens = tokens + (branch if self.scale_mlp is None else self.scale_mlp * branch)
        return grid.to_image(tokens)
