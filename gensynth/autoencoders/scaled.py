"""What the codecs with continuous latents have in common."""

from typing import Any

import torch
from torch import Tensor

from gensynth.autoencoders.codec import LatentCodec


class ScaledLatents(LatentCodec):
    """Scales a diffusers model's latents to about unit variance; mixed into the model's class.

    The class it is mixed into gives `patch` and `config`, with `latent_channels` and, where the
    latents are scaled, `scaling_factor` and `shift_factor`.
    """

    kind = "kl"
    channels = 3
    config: Any
    dtype: torch.dtype

    @property
    def patch(self) -> int:
        """Side in pixels of the square that one latent position stands for."""
        raise NotImplementedError

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image of that size in pixels."""
        return self.config.latent_channels, height // self.patch, width // self.patch

    @property
    def shift(self) -> float:
        """What is subtracted from the latents before they are scaled; 0 for Stable Diffusion's."""
        return self.config.get("shift_factor") or 0.0

    @property
    def scale(self) -> float:
        """What the latents are multiplied by; 0.18215 for Stable Diffusion's."""
        return self.config.get("scaling_factor", 1.0)

    def scaled(self, latents: Tensor) -> Tensor:
        """The network's latents -> those of `encode`, in channels-last order."""
        scaled = (latents - self.shift) * self.scale
        return scaled.contiguous(memory_format=torch.channels_last)

    def unscaled(self, latents: Tensor) -> Tensor:
        """Latents as of `encode` -> the network's."""
        return latents.to(self.dtype) / self.scale + self.shift
