"""Images as tokens of diffusers' VQModel, such as aMUSEd's tokenizer (arXiv 2401.01808)."""

import torch

# diffusers' pipelines look here for the name of the base class that knows how to load.
from diffusers.models.autoencoders.vq_model import VQModel
from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from torch import Tensor

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.autoencoders.quantizer import check_tokens, fingerprint_of, fingerprint_of_parts
from gensynth.seeding import StepRandom


class VQModelAutoencoder(VQModel):
    """diffusers' VQModel between uint8 images and token ids; codes are not on the unit sphere."""

    kind = "vq"
    channels = 3

    @property
    def patch(self) -> int:
        """Side in pixels of the square that one token stands for."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    @property
    def codebook_size(self) -> int:
        """Number of token ids."""
        return self.config.num_vq_embeddings

    def fingerprint(self) -> str:
        """16 hex digits that tell the tokens of this codebook from those of others."""
        return fingerprint_of(self.quantize.embedding.weight)

    def encoder_fingerprint(self) -> str:
        """16 hex digits that change with all that decides which tokens an image gets."""
        return fingerprint_of_parts(self.encoder, self.quant_conv, self.quantize)

    def latent_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in tokens of an image of that size in pixels."""
        return height // self.patch, width // self.patch

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> tokens int64 [B, H / patch, W / patch]."""
        features = super().encode(from_levels(images).to(self.dtype)).latents
        _, _, (_, _, tokens) = self.quantize(features)  # [B * h * w]
        return tokens.view(len(features), *features.shape[2:])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Tokens [B, h, w] -> uint8 [B, 3, H, W].

        Raises:
            UsageError: an id that the codebook does not have.
        """
        check_tokens(latents, self.codebook_size)
        codes = self.quantize.embedding(latents).permute(0, 3, 1, 2).contiguous()
        # As VQModel.decode, which takes tokens or codes depending on lookup_from_codebook.
        given_to_norms = codes if self.config.norm_type == "spatial" else None
        return to_levels(self.decoder(self.post_quant_conv(codes), given_to_norms))
