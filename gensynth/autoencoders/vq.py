"""Images as tokens of a codebook (VQGAN, arXiv 2012.09841; LlamaGen's tokenizer)."""

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder, Encoder
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.autoencoders.quantizer import (
    Quantized,
    Quantizer,
    check_tokens,
    fingerprint_of,
    fingerprint_of_parts,
)
from gensynth.seeding import StepRandom


class VQAutoencoder(ModelMixin, ConfigMixin):
    """diffusers' convolutional encoder and decoder around a codebook.

    Args:
        channels: 1 for greyscale, 3 for RGB.
        widths: channels of each level; there is a halving between two levels.
        layers: residual blocks of a level of the encoder; the decoder has one more.
        latent_channels: of the encoder's output.
        codebook_size, codebook_dim: of the codebook.
        normalize: whether codes are compared on the unit sphere.
        attention: whether the last level attends, as in VQGAN and LlamaGen.
        norm_groups: groups of the group norms.
    """

    kind = "vq"
    # As a model in training it sees pixels; as the codec of another model it makes their tokens.
    works_on = "pixels"
    draws = False

    @register_to_config
    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (128, 128, 256, 256, 512),
        layers: int = 2,
        latent_channels: int = 256,
        codebook_size: int = 16384,
        codebook_dim: int = 8,
        normalize: bool = True,
        attention: bool = True,
        norm_groups: int = 32,
    ):
        super().__init__()
        widths = tuple(widths)
        self.channels, self.patch = channels, 2 ** (len(widths) - 1)
        self.size_multiple = self.patch
        # Of the levels only that of the lowest resolution attends.
        kinds = ["", *[""] * (len(widths) - 2), "Attn" if attention else ""][-len(widths) :]
        common = {
            "block_out_channels": widths,
            "layers_per_block": layers,
            "norm_num_groups": norm_groups,
            "mid_block_add_attention": attention,
        }
        self.encoder = Encoder(
            channels,
            latent_channels,
            down_block_types=tuple(f"{kind}DownEncoderBlock2D" for kind in kinds),
            double_z=False,  # features, not the mean and variance of a posterior
            **common,
        )
        self.decoder = Decoder(
            latent_channels,
            channels,
            up_block_types=tuple(f"{kind}UpDecoderBlock2D" for kind in reversed(kinds)),
            **common,
        )
        # 1x1, down to the few channels of a code and back, as in LlamaGen
        self.before = nn.Conv2d(latent_channels, codebook_dim, 1)
        self.after = nn.Conv2d(codebook_dim, latent_channels, 1)
        self.quantizer = Quantizer(codebook_size, codebook_dim, normalize)

    @property
    def codebook_size(self) -> int:
        """Number of token ids."""
        return self.config.codebook_size

    def fingerprint(self) -> str:
        """16 hex digits that tell the tokens of this codebook from those of others."""
        return fingerprint_of(self.quantizer.embedding.weight)

    def encoder_fingerprint(self) -> str:
        """16 hex digits that change with all that decides which tokens an image gets."""
        return fingerprint_of_parts(self.encoder, self.before, self.quantizer)

    def latent_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in tokens of an image of that size in pixels."""
        return height // self.patch, width // self.patch

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, C, H, W] -> tokens int64 [B, H / patch, W / patch]."""
        return self.quantizer.nearest(self.features(from_levels(images).to(self.dtype)))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Tokens [B, h, w] -> uint8 [B, C, H, W].

        Raises:
            UsageError: an id that the codebook does not have.
        """
        check_tokens(latents, self.codebook_size)
        return to_levels(self.pixels(self.quantizer.lookup(latents)))

    def features(self, pixels: Tensor) -> Tensor:
        """[B, C, H, W] in [-1, 1] -> [B, codebook_dim, h, w] before the codebook."""
        return self.before(self.encoder(pixels))

    def pixels(self, codes: Tensor) -> Tensor:
        """Codes [B, codebook_dim, h, w] -> [B, C, H, W] in about [-1, 1]."""
        return self.decoder(self.after(codes))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Quantized]:
        """[B, C, H, W] in [-1, 1] -> the reconstruction, and what the codebook made."""
        quantized = self.quantizer(self.features(pixels))
        return self.pixels(quantized.features), quantized
