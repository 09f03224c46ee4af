"""A deep-compression autoencoder's latents, 32 pixels a position and more (arXiv 2410.10733)."""

import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

# diffusers' pipelines look here for the name of the base class that knows how to load.
from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from torch import Tensor

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.autoencoders.scaled import ScaledLatents
from gensynth.seeding import StepRandom


class DCAutoencoder(ScaledLatents, AutoencoderDC):
    """diffusers' AutoencoderDC between uint8 images and scaled latents; it has no posterior."""

    @property
    def patch(self) -> int:
        return self.spatial_compression_ratio

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, C, H / patch, W / patch], of about unit variance."""
        return self.scaled(super().encode(from_levels(images).to(self.dtype)).latent)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 [B, 3, H, W]."""
        return to_levels(super().decode(self.unscaled(latents)).sample)
