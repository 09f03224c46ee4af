"""A tiny autoencoder for the latents of a large one, in diffusers' format (madebyollin/taesd)."""

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

# diffusers' pipelines look here for the name of the base class that knows how to load.
from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from torch import Tensor

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.autoencoders.scaled import ScaledLatents
from gensynth.seeding import StepRandom


class TaesdAutoencoder(ScaledLatents, AutoencoderTiny):
    """diffusers' AutoencoderTiny between uint8 images and latents.

    It was distilled on the large autoencoder's scaled latents, so its own scaling is usually 1.
    Its pixels are in [-1, 1], like those of diffusers' other autoencoders.
    """

    @property
    def patch(self) -> int:
        return 2 ** (len(self.config.num_encoder_blocks) - 1)

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, C, H / patch, W / patch], of about unit variance."""
        return self.scaled(super().encode(from_levels(images).to(self.dtype)).latents)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 [B, 3, H, W]."""
        return to_levels(super().decode(self.unscaled(latents)).sample)
