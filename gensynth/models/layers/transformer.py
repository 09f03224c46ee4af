"""What the transformer backbones share: patches, the adaLN block and the output layer."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.models.layers.casting import compute_dtype
from gensynth.models.layers.conditioning import SizeEmbedder, TimestepEmbedder, modulated_norm
from gensynth.models.layers.grid import Grid


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


class TransformerBlock(nn.Module):
    """Token mixer and feed-forward, each modulated and gated (adaLN-Zero).

    Args:
        mixer: [B, N, C] and a `Grid` -> [B, N, C].
        skip: whether an earlier sequence is merged into the input (a U-shaped transformer).
    """

    def __init__(self, hidden_size: int, mixer: nn.Module, mlp_ratio: float, skip: bool = False):
        super().__init__()
        inner = int(hidden_size * mlp_ratio)
        self.mixer = mixer
        self.mlp_in = nn.Linear(hidden_size, inner)
        self.mlp_out = nn.Linear(inner, hidden_size)
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)
        self.skip = nn.Linear(2 * hidden_size, hidden_size) if skip else None

    def forward(
        self, tokens: Tensor, condition: Tensor, grid: Grid, skipped: Tensor | None = None
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
        hidden = self.mlp_in(modulated_norm(tokens, shift_mlp, scale_mlp))
        hidden = self.mlp_out(F.gelu(hidden, approximate="tanh"))
        return torch.addcmul(tokens, gate_mlp[:, None], hidden)


class PatchOutput(nn.Module):
    """Modulated norm and a linear layer from tokens back to squares of pixels or latents."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int):
        super().__init__()
        self.patch_size = patch_size
        self.modulation = nn.Linear(hidden_size, 2 * hidden_size)
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
        if isinstance(module, TimestepEmbedder | SizeEmbedder):
            module.init_weights()
        if isinstance(module, TransformerBlock | PatchOutput):
            nn.init.zeros_(module.modulation.weight)
        if isinstance(module, PatchOutput):
            nn.init.zeros_(module.proj.weight)
