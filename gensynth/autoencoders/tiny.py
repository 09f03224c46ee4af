"""A tiny autoencoder for the latents of a large one (TAESD and TAEF2, madebyollin/taesd).

diffusers' AutoencoderTiny has the same layers but not the normalised branches that TAEF2 has in its
blocks of lowest resolution, without which its weights give wrong pictures.
"""

from typing import cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.seeding import StepRandom

WIDTH = 64
LATENT_LIMIT = 3  # latents beyond are bent towards it before decoding


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=bias)


class Block(nn.Module):
    """Three 3x3 convolutions and a shortcut; before them, if `normed`, a normalised 1x1 branch."""

    def __init__(self, normed: bool):
        super().__init__()
        act = nn.ReLU()
        self.conv = nn.Sequential(
            conv3x3(WIDTH, WIDTH), act, conv3x3(WIDTH, WIDTH), act, conv3x3(WIDTH, WIDTH)
        )
        self.pool = None
        if normed:
            inner = 4 * WIDTH
            self.pool = nn.Sequential(
                nn.Conv2d(WIDTH, inner, 1, bias=False),
                nn.GroupNorm(4, inner),
                act,
                nn.Conv2d(inner, WIDTH, 1, bias=False),
            )

    def forward(self, image: Tensor) -> Tensor:
        if self.pool is not None:
            image = image + self.pool(image)
        return torch.relu(self.conv(image) + image)


class Bend(nn.Module):
    """Keeps latents in (-3, 3)."""

    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents / LATENT_LIMIT) * LATENT_LIMIT


def encoder_layers(latent_channels: int, normed: bool) -> list[nn.Module]:
    """The encoder; its places in the list are part of the published names."""
    layers: list[nn.Module] = [conv3x3(3, WIDTH), Block(False)]
    for level in range(3):
        layers.append(conv3x3(WIDTH, WIDTH, stride=2, bias=False))
        layers += [Block(normed and level == 2) for _ in range(3)]
    return [*layers, conv3x3(WIDTH, latent_channels)]


def decoder_layers(latent_channels: int, normed: bool) -> list[nn.Module]:
    """The decoder; its places in the list are part of the published names."""
    layers: list[nn.Module] = [Bend(), conv3x3(latent_channels, WIDTH), nn.ReLU()]
    for level in range(3):
        layers += [Block(normed and level == 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), conv3x3(WIDTH, WIDTH, bias=False)]
    return [*layers, Block(False), conv3x3(WIDTH, 3)]


class TinyAutoencoder(ModelMixin, ConfigMixin):
    """RGB pixels <-> latents of an eighth of the size, in a few milliseconds.

    Args:
        latent_channels: 32 for FLUX.2 (TAEF2), 16 for FLUX.1 and SD3, 4 for SD.
        normed: whether the blocks of lowest resolution have the normalised branch (TAEF2).
    """

    kind = "tiny"
    channels, patch = 3, 8

    @register_to_config
    def __init__(self, latent_channels: int = 32, normed: bool = True):
        super().__init__()
        self.encoder = nn.Sequential(*encoder_layers(latent_channels, normed))
        self.decoder = nn.Sequential(*decoder_layers(latent_channels, normed))

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image of that size in pixels."""
        return self.config.latent_channels, height // self.patch, width // self.patch

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> latents [B, C, H / 8, W / 8] of about unit variance."""
        return cast(Tensor, self.encoder((from_levels(images) + 1) / 2))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 [B, 3, H, W]."""
        return to_levels(2 * self.decoder(latents) - 1)
