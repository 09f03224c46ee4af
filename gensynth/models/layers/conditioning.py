"""Timestep and class embeddings, and the adaptive layer norm they steer (DiT, arXiv 2212.09748)."""

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn

FREQUENCIES = 256


class TimestepEmbedder(nn.Module):
    """Vector of a timestep: 256 sinusoids (cosines first, period up to 10000) and a SiLU MLP."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.mlp = TimestepEmbedding(FREQUENCIES, hidden_size)

    def forward(self, timestep: Tensor) -> Tensor:
        """[B] timesteps, fractional or whole -> [B, hidden_size]."""
        waves = get_timestep_embedding(
            timestep, FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        return self.mlp(waves.to(self.mlp.linear_1.weight.dtype))

    def init_weights(self) -> None:
        nn.init.normal_(self.mlp.linear_1.weight, std=0.02)
        nn.init.normal_(self.mlp.linear_2.weight, std=0.02)


def channel_norm(sample: Tensor, eps: float = 1e-6) -> Tensor:
    """[B, C, H, W] normalised over C at each position, without learned scale (LayerNorm2d)."""
    channels_last = sample.permute(0, 2, 3, 1)
    return F.layer_norm(channels_last, channels_last.shape[-1:], eps=eps).permute(0, 3, 1, 2)


def modulate(sample: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """sample [B, C, H, W] * (1 + scale [B, C]) + shift [B, C]."""
    return torch.addcmul(shift[:, :, None, None], sample, 1 + scale[:, :, None, None])
