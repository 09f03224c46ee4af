"""A tiny codec of every class, with random weights."""

from collections.abc import Callable

import torch

from gensynth.autoencoders import (
    DCAutoencoder,
    KLAutoencoder,
    LatentVQ,
    PixelAutoencoder,
    TaesdAutoencoder,
    TinyAutoencoder,
    VQAutoencoder,
    VQModelAutoencoder,
)

BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 16, 16),
    "norm_num_groups": 4,
    "latent_channels": 4,
}


def kl() -> KLAutoencoder:
    return KLAutoencoder(**BLOCKS, scaling_factor=0.7, shift_factor=0.3)


def dc() -> DCAutoencoder:
    """With linear attention at two resolutions."""
    return DCAutoencoder(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 16, 16),
        decoder_block_out_channels=(8, 16, 16),
        encoder_layers_per_block=(1, 1, 2),
        decoder_layers_per_block=(1, 2, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (5,), (5,)),
        scaling_factor=0.4,
    )


def convolutional_dc() -> DCAutoencoder:
    """Without attention; its first and last layers change the resolution, by other means."""
    return DCAutoencoder(
        latent_channels=4,
        encoder_block_out_channels=(8, 16, 16),
        decoder_block_out_channels=(8, 16, 16),
        encoder_layers_per_block=(0, 1, 1),
        decoder_layers_per_block=(0, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        upsample_block_type="interpolate",
        downsample_block_type="conv",
    )


def taesd() -> TaesdAutoencoder:
    return TaesdAutoencoder(
        encoder_block_out_channels=[8, 8, 8],
        decoder_block_out_channels=[8, 8, 8],
        num_encoder_blocks=[1, 1, 1],
        num_decoder_blocks=[1, 1, 1],
        scaling_factor=1.5,
        shift_factor=0.25,
    )


def tiny() -> TinyAutoencoder:
    return TinyAutoencoder(4, normed=True)


def plain_tiny() -> TinyAutoencoder:
    return TinyAutoencoder(4, normed=False)


def pixels() -> PixelAutoencoder:
    return PixelAutoencoder(3, 2)


def vq() -> VQAutoencoder:
    """With softmax attention in the middle and in the lowest level."""
    return VQAutoencoder(3, (8, 16, 16), 1, 16, 64, 4, norm_groups=4)


def grey_vq() -> VQAutoencoder:
    return VQAutoencoder(1, (8, 16), 1, 16, 64, 4, attention=False, norm_groups=4)


def vqmodel() -> VQModelAutoencoder:
    return VQModelAutoencoder(**BLOCKS, num_vq_embeddings=64, vq_embed_dim=4)


def latent_vq() -> LatentVQ:
    """Tokens of every second latent position, above a codec that ends in pixels."""
    codec = LatentVQ(4, (16, 16), 1, 16, 64, 4, norm_groups=4)
    codec.hold(taesd())
    return codec


EVERY: list[Callable] = [
    *(pixels, tiny, plain_tiny, taesd, kl, dc, convolutional_dc, vq, grey_vq, vqmodel, latent_vq)
]


def made(create: Callable, seed: int = 0):
    """A codec with the random weights of a seed, ready to use."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create().eval().requires_grad_(False)


def latents_for(codec, height: int, width: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Random latents, or tokens, of a picture of so many latent rows and columns."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *codec.latent_shape(height * codec.patch, width * codec.patch))
    if codec.kind == "vq":
        return torch.randint(0, codec.codebook_size, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def picture_for(codec, height: int, width: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """A random picture of so many latent rows and columns."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, codec.channels, height * codec.patch, width * codec.patch)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
