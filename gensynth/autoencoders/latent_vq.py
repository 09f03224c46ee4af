"""Tokens of the latents of a frozen codec: a tokenizer that trains in minutes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from gensynth.autoencoders.dc import DCAutoencoder
from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.autoencoders.quantizer import check_tokens, fingerprint_of_parts
from gensynth.autoencoders.taesd import TaesdAutoencoder
from gensynth.autoencoders.tiny import TinyAutoencoder
from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.errors import UsageError
from gensynth.seeding import StepRandom

# What can be frozen inside, by the name that a config.json has for it.
BASES: dict[str, type[ModelMixin]] = {
    base.__name__: base
    for base in (KLAutoencoder, DCAutoencoder, TaesdAutoencoder, TinyAutoencoder)
}


class LatentVQ(VQAutoencoder):
    """A codebook between a codec's latents, and that codec: pixels -> latents -> tokens and back.

    The codec is frozen and part of the model, so that a saved one needs nothing else. Training
    sees latents alone, which are encoded once.

    Args:
        channels: of the latents.
        widths, layers, latent_channels, attention, norm_groups: of the two networks between latents
            and codes, as those of `VQAutoencoder` between pixels and codes. With one width there is
            a token for every position of the latents.
        codebook_size, codebook_dim, normalize: of the codebook.
        base: class and settings of the codec; None: `hold` gives it.
    """

    works_on = "latents"
    draws = False

    @register_to_config
    def __init__(
        self,
        channels: int = 32,
        widths: Sequence[int] = (64,),
        layers: int = 1,
        latent_channels: int = 64,
        codebook_size: int = 4096,
        codebook_dim: int = 8,
        normalize: bool = True,
        attention: bool = False,
        norm_groups: int = 8,
        base: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            channels,
            widths,
            layers,
            latent_channels,
            codebook_size,
            codebook_dim,
            normalize,
            attention,
            norm_groups,
        )
        self.codec: Any = None  # not `base`: diffusers would give its settings
        if base is not None:
            settings = dict(base)
            name = settings.pop("_class_name", None)
            if name not in BASES:
                raise ValueError(f"its base is a {name}, and not one of {', '.join(BASES)}")
            self.hold(BASES[name].from_config(settings))

    def hold(self, codec: Any) -> None:
        """Takes a codec of latents in, frozen.

        Raises:
            UsageError: its latents have other channels.
        """
        (channels, *_) = codec.latent_shape(codec.patch, codec.patch)
        if channels != self.config.channels:
            raise UsageError(
                f"the tokenizer is of latents of {self.config.channels} channels, and those of the "
                f"autoencoder have {channels}; leave model.channels out and it is chosen."
            )
        settings = {key: value for key, value in codec.config.items() if not key.startswith("_")}
        self.register_to_config(base={"_class_name": type(codec).__name__, **settings})
        self.codec = codec.eval().requires_grad_(False)
        self.channels, self.patch = codec.channels, codec.patch * self.size_multiple

    def held(self) -> Any:
        """The codec of the latents.

        Raises:
            UsageError: it has none yet.
        """
        if self.codec is None:
            raise UsageError("this tokenizer of latents has no codec yet; give it one with hold().")
        return self.codec

    def encoder_fingerprint(self) -> str:
        """16 hex digits that change with all that decides which tokens an image gets.

        Raises:
            UsageError: it has no codec yet.
        """
        return fingerprint_of_parts(self.held(), self.encoder, self.before, self.quantizer)

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> tokens int64 [B, H / patch, W / patch]."""
        return self.quantizer.nearest(self.features(self.held().encode(images).to(self.dtype)))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Tokens [B, h, w] -> uint8 [B, 3, H, W].

        Raises:
            UsageError: an id that the codebook does not have.
        """
        check_tokens(latents, self.codebook_size)
        pictures: Tensor = self.held().decode(self.pixels(self.quantizer.lookup(latents)))
        return pictures
