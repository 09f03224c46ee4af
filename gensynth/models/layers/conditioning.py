"""Timestep, class and size embeddings, and the norms they steer (DiT, arXiv 2212.09748)."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn

from gensynth.models.layers.casting import compute_dtype

FREQUENCIES = 256  # of DiT's TimestepEmbedder, and of all models after it


def sinusoids(values: Tensor) -> Tensor:
    """[...] numbers -> [..., 256]: cosines, then sines, of periods up to 10000."""
    # As DiT's: cosines first, and rates not shifted by a step. diffusers' defaults are neither.
    waves = get_timestep_embedding(
        values.flatten(), FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    return waves.unflatten(0, values.shape)


class TimestepEmbedder(nn.Module):
    """Vector of a timestep: 256 sinusoids (cosines first, period up to 10000) and a SiLU MLP."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.mlp = TimestepEmbedding(FREQUENCIES, hidden_size)

    def forward(self, timestep: Tensor) -> Tensor:
        """[B] timesteps, fractional or whole -> [B, hidden_size]."""
        # the sinusoids are made in float32 and only then rounded to the layer's type
        return self.mlp(sinusoids(timestep).to(compute_dtype(self.mlp.linear_1)))

    def init_weights(self) -> None:
        nn.init.normal_(self.mlp.linear_1.weight, std=0.02)
        nn.init.normal_(self.mlp.linear_2.weight, std=0.02)


def over_batch(timestep: Tensor | float, sample: Tensor) -> Tensor:
    """Timesteps [B] for `sample` [B, ...]: as given, or one number or 0-d tensor for all of it."""
    if isinstance(timestep, Tensor):
        return timestep if timestep.dim() else timestep.to(sample.device).expand(len(sample))
    return torch.full((len(sample),), timestep, device=sample.device)


def labels_or_null(class_labels: Tensor | None, timestep: Tensor, num_classes: int) -> Tensor:
    """The labels [B]; for None the null label, as often as there are timesteps [B]."""
    if class_labels is not None:
        return class_labels
    return torch.full(timestep.shape[:1], num_classes, device=timestep.device)


def stage_conditions(
    timestep_embedders: Iterable[nn.Module], timestep: Tensor, told: Iterable[Tensor]
) -> list[Tensor]:
    """SiLU of the sum of the timestep's vector and another, for every width of a U-shaped model.

    timestep [B], and vectors [B, C] of a class or a text -> [B, C] of each width.
    """
    pairs = zip(timestep_embedders, told, strict=True)
    return [F.silu(embed_timestep(timestep) + vector) for embed_timestep, vector in pairs]


class SizeEmbedder(nn.Module):
    """Vector of the size an image was resized to and of where it was cropped.

    Micro-conditioning as in SDXL (arXiv 2307.01952, section 2.2). The output layer starts at zero.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.mlp = TimestepEmbedding(4 * FREQUENCIES, hidden_size)

    def forward(self, crops: Tensor) -> Tensor:
        """[B, 4] height, width, top and left in positions of the sample -> [B, hidden_size]."""
        return self.mlp(sinusoids(crops).flatten(1).to(compute_dtype(self.mlp.linear_1)))

    def init_weights(self) -> None:
        nn.init.normal_(self.mlp.linear_1.weight, std=0.02)
        nn.init.zeros_(self.mlp.linear_2.weight)


def whole_crops(sample: Tensor, crops: Tensor | None) -> Tensor:
    """`crops` [B, 4], or those of images that were not cropped."""
    if crops is not None:
        return crops
    whole = (*sample.shape[-2:], 0, 0)
    columns = [torch.full((len(sample),), float(side), device=sample.device) for side in whole]
    return torch.stack(columns, dim=1)


def channel_norm(sample: Tensor, eps: float = 1e-6) -> Tensor:
    """[B, C, H, W] normalised over C at each position, without learned scale (LayerNorm2d)."""
    # A view; with channels-last images it is contiguous, and nothing is copied.
    channels_last = sample.permute(0, 2, 3, 1)
    return F.layer_norm(channels_last, channels_last.shape[-1:], eps=eps).permute(0, 3, 1, 2)


def modulate(sample: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """sample [B, C, H, W] * (1 + scale [B, C]) + shift [B, C]."""
    return torch.addcmul(shift[:, :, None, None], sample, 1 + scale[:, :, None, None])


def modulated_norm(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """[B, N, C] normalised over C, then * (1 + scale [B, C]) + shift [B, C]."""
    normed = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
    return torch.addcmul(shift[:, None], normed, 1 + scale[:, None])
