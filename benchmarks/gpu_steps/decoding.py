"""From latents to pictures: the time of Stable Diffusion's decoder, in one piece or by tiles."""

from functools import partial

import torch
from torch import nn

from gensynth.autoencoders.kl import KLAutoencoder
from gensynth_benchmarks.gpu_steps.common import Bench, fresh_memory, timed
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.machine import peak_gib

DECODING, DECODER = "decoding", "decoder of latents"
SECONDS = 1.5


def decoder(miniature: bool) -> KLAutoencoder:
    """Stable Diffusion's autoencoder with random weights."""
    return KLAutoencoder(
        block_out_channels=(32, 32, 32, 32) if miniature else (128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1 if miniature else 2,
        latent_channels=4,
        scaling_factor=0.18215,
    )


def decoding_row(bench: Bench, pixels: int, batch: int = 1, tile: int = 0) -> Row:
    """Latents to uint8 pictures of a size, by tiles of a size in pixels, or in one piece (0).

    Channels last, in bfloat16 on a GPU. Tiles are diffusers', which overlap by a quarter.
    """
    fresh_memory(bench.device)
    dtype = torch.bfloat16 if bench.device == "cuda" else torch.float32
    with torch.device(bench.device):
        codec = decoder(bench.miniature)
    codec = nn.Module.to(codec, dtype=dtype, memory_format=torch.channels_last).eval()
    fresh_memory(bench.device)  # the weights were larger before they were rounded
    if tile:
        codec.enable_tiling()
        codec.tile_sample_min_size, codec.tile_latent_min_size = tile, tile // codec.patch
    generator = torch.Generator(bench.device).manual_seed(0)
    shape = (batch, *codec.latent_shape(pixels, pixels))
    latents = torch.randn(shape, generator=generator, device=bench.device)
    row = timed(partial(codec.decode, latents), bench.device, 0 if bench.miniature else SECONDS)
    rate = 1000 * batch / row["milliseconds"]
    return row | {"images_per_second": rate, "peak_gib": peak_gib(bench.device)}
