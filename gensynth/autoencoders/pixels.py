"""Pixels as latents, without loss: scaled to [-1, 1] and folded into channels."""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from gensynth.autoencoders.codec import LatentCodec
from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.seeding import StepRandom


class PixelAutoencoder(ModelMixin, ConfigMixin, LatentCodec):
    """Squares of `patch` x `patch` pixels become channels (space-to-depth); nothing is learned.

    Args:
        channels: 1 for greyscale, 3 for RGB.
        patch: side of the square; 1 leaves the pixels where they are.
    """

    kind = "none"

    @register_to_config
    def __init__(self, channels: int = 3, patch: int = 1):
        super().__init__()
        self.channels, self.patch = channels, patch
        # diffusers finds a module's device and dtype through its tensors, and saves at least one.
        self.register_buffer("unit", torch.ones(1))

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image of that size in pixels."""
        return self.channels * self.patch**2, height // self.patch, width // self.patch

    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, C, H, W] -> float32 [B, C * patch^2, H / patch, W / patch] in [-1, 1].

        In channels-last order. Nothing is random here; `random` is for autoencoders with a
        posterior.
        """
        # channels-last, which DiCo's kernel needs
        latents = F.pixel_unshuffle(from_levels(images), self.patch)
        return latents.contiguous(memory_format=torch.channels_last)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 [B, C, H, W]."""
        return to_levels(F.pixel_shuffle(latents, self.patch))
