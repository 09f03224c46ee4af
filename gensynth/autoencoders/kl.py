"""A pretrained variational autoencoder's latents, as Stable Diffusion's (arXiv 2112.10752)."""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

# diffusers' pipelines look here for the name of the base class that knows how to load.
from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from torch import Tensor

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.autoencoders.scaled import ScaledLatents
from gensynth.seeding import StepRandom


class KLAutoencoder(ScaledLatents, AutoencoderKL):
    """diffusers' AutoencoderKL between uint8 images and scaled latents.

    A subclass, so that the folder it is saved to is a plain diffusers VAE as well: any folder or
    hub id of one opens, and what is saved here loads there.
    """

    @property
    def patch(self) -> int:
        return 2 ** (len(self.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, C, H / patch, W / patch], of about unit variance.

        With `random` a sample of the posterior, as DiT trains; without, its mean.
        """
        posterior = super().encode(from_levels(images).to(self.dtype)).latent_dist
        latents = posterior.mean
        if random is not None:
            # not posterior.sample(): numbers of this step's generator, the same for any processes
            latents = latents + posterior.std * random.normal(*latents.shape[1:])
        return self.scaled(latents)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 [B, 3, H, W]."""
        return to_levels(super().decode(self.unscaled(latents)).sample)
