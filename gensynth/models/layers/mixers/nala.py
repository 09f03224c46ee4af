"""Norm-aware linear attention (NaLaFormer, arXiv 2506.21137).

Written from the paper's description: there is no published code or tensor to compare with.
"""

import math

import torch
from torch import Tensor, nn

from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.ops import linear_attention
from gensynth.ops.precision import without_autocast

POWER = 3.0  # exponent on the entries of a direction
EPS = 1e-6


class NormAwareLinearAttention(nn.Module):
    """Linear attention in which a longer query attends more sharply, as under softmax."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        q, k, v = (split_heads(x, self.num_heads) for x in self.qkv(tokens).chunk(3, dim=-1))

        def rotate(features: Tensor) -> Tensor:
            # cosines and sines [B, H, N, 2 D] each turn as a head of width D
            return torch.cat([grid.rotate(half) for half in features.chunk(2, dim=-1)], dim=-1)

        features = query_features(q.float()), key_features(k.float())
        with without_autocast(tokens):  # a power of the directions: too small for half precision
            output = linear_attention(
                *features,
                v.float(),
                feature="identity",
                eps=EPS,
                rotate=None if grid.rotary is None else rotate,
            )
        return self.proj(merge_heads(output.to(tokens.dtype)))


def query_features(q: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, H, N, 2 D]: the direction to a power that grows with the norm."""
    norm = q.norm(dim=-1, keepdim=True)
    return on_quarter_circle(q / (norm + EPS), POWER * (0.5 + torch.tanh(norm)))


def key_features(k: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, H, N, 2 D]: the direction to a fixed power, the norm kept."""
    norm = k.norm(dim=-1, keepdim=True)
    return norm * on_quarter_circle(k / (norm + EPS), torch.full_like(norm, POWER))


def on_quarter_circle(direction: Tensor, power: Tensor) -> Tensor:
    """|d|^p (cos(π d / 4), sin(π d / 4)) for entries d in [-1, 1].

    The product of two such pairs is |d|^p |e|^p' cos(π (d - e) / 4): never negative, and smallest
    where the entries point in opposite directions.
    """
    size = direction.abs().clamp(min=EPS).pow(power)  # no zero: its logarithm is in the gradient
    angle = direction * (math.pi / 4)
    return torch.cat([size * angle.cos(), size * angle.sin()], dim=-1)
