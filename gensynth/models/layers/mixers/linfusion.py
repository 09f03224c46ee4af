"""LinFusion (arXiv 2409.02097) in the place of a softmax attention, whose weights it keeps."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.models.layers.mixers.linear import EPS, projection
from gensynth.models.layers.mixers.softmax import SoftmaxAttention
from gensynth.ops import linear_attention
from gensynth.ops.plain import is_plain


class LinFusionAttention(SoftmaxAttention):
    """Linear attention with q = Q(x + to_q_(x)), k = K(x + to_k_(x)), φ = ELU + 1.

    As mixer "linear", but Q, K and V are those of a softmax attention, in one matrix and with
    biases, so that `gensynth.linearize` can begin with a trained model's.

    Args:
        projection_dim: inner width of the networks `to_q_`, `to_k_`; None for `hidden_size`, -1
            for none.
    """

    def __init__(self, hidden_size: int, num_heads: int, projection_dim: int | None = None):
        super().__init__(hidden_size, num_heads)
        inner = hidden_size if projection_dim is None else projection_dim
        if inner != -1 and inner < 1:
            raise ValueError(f"projection_dim must be at least 1, or -1 for none, got {inner}")
        self.to_q_, self.to_k_ = (projection(hidden_size, inner) for _ in range(2))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        inputs = (tokens + self.to_q_(tokens), tokens + self.to_k_(tokens), tokens)
        q, k, v = (split_heads(x, self.num_heads) for x in thirds(self.qkv, inputs))
        rotate = None if grid.rotary is None else grid.rotate
        output = linear_attention(q, k, v, eps=EPS, rotate=rotate)
        return self.proj(merge_heads(output))


def thirds(layer: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """Of a layer for queries, keys and values the third that belongs to each input [B, N, C]."""
    if not is_plain(layer, nn.Linear):
        # Adapters and hooks act on the whole layer, and once: the inputs are one batch.
        whole = layer(torch.cat(inputs)).chunk(3)
        return [one.chunk(3, dim=-1)[part] for part, one in enumerate(whole)]
    weights, biases = layer.weight.chunk(3), layer.bias.chunk(3)
    return [F.linear(*one) for one in zip(inputs, weights, biases, strict=True)]
