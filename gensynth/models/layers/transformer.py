"""What the transformer backbones share: patches, the adaLN block and the output layer."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.models.layers.casting import compute_dtype
from gensynth.models.layers.conditioning import SizeEmbedder, TimestepEmbedder, modulated_norm
from gensynth.models.layers.grid import Grid
from gensynth.models.layers.text import CrossAttention, Words


class PatchEmbed(nn.Module):
    """[B, C, H, W] -> [B, N, hidden_size]: one token for each square of patch_size x patch_size.

    The tokens have the weights' type, also under autocast: what is added up over all blocks stays
    in float32 there, as in DiT.
    """

    def __init__(self, in_channels: int, patch_size: int, hidden_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)

    def forward(self, sample: Tensor) -> Tensor:
        return self.proj(sample).flatten(2).transpose(1, 2).to(compute_dtype(self.proj))


class ModulationTable(nn.Module):
    """What a block adds to a modulation that is made once for all (adaLN-single, PixArt-alpha).

    Stands where a block of its own modulation has a linear layer (arXiv 2310.00426, section 2.3).

    Args:
        count: of vectors: shifts, scales and gates.
    """

    def __init__(self, count: int, hidden_size: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(count, hidden_size))

    def init_weights(self) -> None:
        nn.init.normal_(self.table, std=self.table.shape[1] ** -0.5)

    def forward(self, condition: Tensor) -> Tensor:
        """[B, count * C], or one vector [B, C] for all of them -> [B, count * C]."""
        vectors = condition.unflatten(1, (-1, self.table.shape[1]))
        return (self.table + vectors).flatten(1)


class TransformerBlock(nn.Module):
    """Token mixer and feed-forward, each modulated and gated (adaLN-Zero).

    Between them the tokens look at the words of a text, if there are any (PixArt-alpha's block).

    Args:
        mixer: [B, N, C] and a `Grid` -> [B, N, C].
        skip: whether an earlier sequence is merged into the input (a U-shaped transformer).
        words_heads: of cross-attention to words as wide as the tokens; None for none.
        shared_modulation: whether the condition [B, 6 C] is a modulation already.
    """

    def __init__(
        self,
        hidden_size: int,
        mixer: nn.Module,
        mlp_ratio: float,
        skip: bool = False,
        words_heads: int | None = None,
        shared_modulation: bool = False,
    ):
        super().__init__()
        inner = int(hidden_size * mlp_ratio)
        self.mixer = mixer
        self.mlp_in = nn.Linear(hidden_size, inner)
        self.mlp_out = nn.Linear(inner, hidden_size)
        self.modulation = modulation(6, hidden_size, shared_modulation)
        self.skip = nn.Linear(2 * hidden_size, hidden_size) if skip else None
        self.cross = None
        if words_heads is not None:
            self.cross = CrossAttention(hidden_size, hidden_size, words_heads)

    def forward(
        self,
        tokens: Tensor,
        condition: Tensor,
        grid: Grid,
        skipped: Tensor | None = None,
        words: Words | None = None,
    ) -> Tensor:
        """tokens, skipped [B, N, C], condition [B, C] after its SiLU -> [B, N, C]."""
        if self.skip is not None and skipped is not None:
            tokens = self.skip(torch.cat([tokens, skipped], dim=-1))  # [B, N, 2C] -> [B, N, C]
        shift_mix, scale_mix, gate_mix, shift_mlp, scale_mlp, gate_mlp = self.modulation(
            condition
        ).chunk(6, dim=1)
        hidden = self.mixer(modulated_norm(tokens, shift_mix, scale_mix), grid)
        # addcmul instead of x + gate * h: one pass over memory, also where nothing is compiled
        tokens = torch.addcmul(tokens, gate_mix[:, None], hidden)
        if self.cross is not None and words is not None:
            tokens = tokens + self.cross(tokens, words)  # as published, without a norm before it
        hidden = self.mlp_in(modulated_norm(tokens, shift_mlp, scale_mlp))
        hidden = self.mlp_out(F.gelu(hidden, approximate="tanh"))
        return torch.addcmul(tokens, gate_mlp[:, None], hidden)


class PatchOutput(nn.Module):
    """Modulated norm and a linear layer from tokens back to squares of pixels or latents."""

    def __init__(
        self,
        hidden_size: int,
        patch_size: int,
        out_channels: int,
        shared_modulation: bool = False,
    ):
        super().__init__()
        self.patch_size = patch_size
        self.modulation = modulation(2, hidden_size, shared_modulation)
        self.proj = nn.Linear(hidden_size, patch_size**2 * out_channels)

    def forward(self, tokens: Tensor, condition: Tensor, grid: Grid) -> Tensor:
        """[B, N, C] -> [B, out_channels, H, W]."""
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        squares = self.proj(modulated_norm(tokens, shift, scale))  # [B, h * w, p * p * C]
        side = self.patch_size
        # channels last within a square, as DiT's unpatchify: [B, h, w, p, p, C]
        squares = squares.unflatten(1, (grid.height, grid.width)).unflatten(3, (side, side, -1))
        # [B, C, h, p, w, p] -> [B, C, h * p, w * p]
        return squares.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def modulation(count: int, hidden_size: int, shared: bool) -> nn.Module:
    """What makes `count` vectors of a condition: a layer, or a table to add to a shared one."""
    if shared:
        return ModulationTable(count, hidden_size)
    return nn.Linear(hidden_size, count * hidden_size)


def init_transformer(model: nn.Module) -> None:
    """DiT's start: Xavier for matrices, N(0, 0.02) for embeddings, zero for gates and output."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, PatchEmbed):
            # as a matrix [C_out, C_in * p * p], as DiT does: a convolution's fans are others
            nn.init.xavier_uniform_(module.proj.weight.flatten(1))
            nn.init.zeros_(cast(Tensor, module.proj.bias))
    # A second walk: the first one has just given these layers Xavier's weights.
    for module in model.modules():
        if isinstance(module, TimestepEmbedder | SizeEmbedder | CrossAttention | ModulationTable):
            module.init_weights()
        if isinstance(module, TransformerBlock | PatchOutput) and isinstance(
            module.modulation, nn.Linear
        ):
            nn.init.zeros_(module.modulation.weight)
        if isinstance(module, PatchOutput):
            nn.init.zeros_(module.proj.weight)
