"""Generalised linear attention (LinFusion, arXiv 2409.02097)."""

from torch import Tensor, nn

from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.ops import linear_attention

EPS = 1e-4  # LinFusion's


def projection(width: int, inner: int) -> nn.Module:
    """The non-linear part of a query or key: an MLP of that inner width; for -1 the identity."""
    if inner == -1:
        return nn.Identity()
    layers = nn.Linear(width, inner), nn.LayerNorm(inner), nn.LeakyReLU(), nn.Linear(inner, width)
    return nn.Sequential(*layers)


class GeneralizedLinearAttention(nn.Module):
    """Normalised linear attention with q = to_q(x + MLP(x)), k = to_k(x + MLP(x)), φ = ELU + 1.

    Args:
        projection_dim: inner width of the MLPs; None for `hidden_size`, -1 for q = to_q(2 x).
    """

    def __init__(self, hidden_size: int, num_heads: int, projection_dim: int | None = None):
        super().__init__()
        self.num_heads = num_heads
        inner = hidden_size if projection_dim is None else projection_dim
        if inner != -1 and inner < 1:
            raise ValueError(f"projection_dim must be at least 1, or -1 for none, got {inner}")
        self.query_mlp, self.key_mlp = (projection(hidden_size, inner) for _ in range(2))
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(3)
        )
        self.to_out = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tensor, grid: Grid, context: Tensor | None = None) -> Tensor:
        """tokens [B, N, C], keys and values from `context` [B, M, C] if given -> [B, N, C]."""
        source = tokens if context is None else context
        q = split_heads(self.to_q(tokens + self.query_mlp(tokens)), self.num_heads)
        k = split_heads(self.to_k(source + self.key_mlp(source)), self.num_heads)
        v = split_heads(self.to_v(source), self.num_heads)
        rotate = None if grid.rotary is None else grid.rotate
        # q, k, v [B, H, N or M, D]; φ = ELU + 1 is applied inside
        output = linear_attention(q, k, v, eps=EPS, rotate=rotate)
        return self.to_out(merge_heads(output))
