"""A tiny autoencoder for the latents of a large one (TAESD and TAEF2, madebyollin/taesd).

diffusers' AutoencoderTiny has the same layers but not the normalised branches that TAEF2 has in its
blocks of lowest resolution, without which its weights give wrong pictures.
"""

from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.autoencoders.scaled import ScaledLatents
from gensynth.errors import CorruptError, first_line
from gensynth.seeding import StepRandom
from gensynth.stored import check_finite

WIDTH = 64  # channels of every layer
LATENT_LIMIT = 3  # latents beyond are bent towards it before decoding
PARTS = ("encoder", "decoder")  # a file of weights each, as published


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


class TinyAutoencoder(ScaledLatents, ModelMixin, ConfigMixin):
    """RGB pixels <-> latents of an eighth of the size, in a few milliseconds.

    Args:
        latent_channels: 32 for FLUX.2 (TAEF2), 16 for FLUX.1 and SD3, 4 for SD.
        normed: whether the blocks of lowest resolution have the normalised branch (TAEF2).
    """

    patch = 8

    @register_to_config
    def __init__(self, latent_channels: int = 32, normed: bool = True):
        super().__init__()
        self.encoder = nn.Sequential(*encoder_layers(latent_channels, normed))
        self.decoder = nn.Sequential(*decoder_layers(latent_channels, normed))

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, C, H / 8, W / 8] of about unit variance."""
        # its pixels are in [0, 1], not in [-1, 1]
        return self.scaled(self.encoder((from_levels(images).to(self.dtype) + 1) / 2))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 [B, 3, H, W]."""
        return to_levels(2 * self.decoder(self.unscaled(latents)) - 1)


def is_published(folder: Path) -> bool:
    """Whether a folder holds the two files of weights that are published, and no settings."""
    return all((folder / f"{part}.safetensors").is_file() for part in PARTS)


def read_published(folder: Path) -> TinyAutoencoder:
    """The autoencoder of a folder with the published files of weights, in float32.

    Raises:
        CorruptError: the files are damaged or hold another network.
    """
    problem = f"{str(folder)!r} does not hold a whole TAESD or TAEF2: "
    advice = " Fetch encoder.safetensors and decoder.safetensors again."
    try:
        states = {part: load_file(folder / f"{part}.safetensors") for part in PARTS}
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{problem}{first_line(error)}.{advice}") from error
    first = states["decoder"].get("1.weight")
    if first is None or first.ndim != 4:
        raise CorruptError(f"{problem}the decoder does not begin with a convolution.{advice}")
    # The two variants differ in this branch, which its tensors show.
    normed = any(".pool." in name for name in states["encoder"])
    with torch.device("meta"):  # so that no random weights are drawn
        codec = TinyAutoencoder(first.shape[1], normed)
    for part, state in states.items():
        try:
            getattr(codec, part).load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise CorruptError(
                f"{problem}the {part}'s tensors have other names or shapes.{advice}"
            ) from error
    check_finite(codec, str(folder))
    return codec.float()
