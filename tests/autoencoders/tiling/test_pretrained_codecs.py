"""Autoencoders of diffusers' pipelines work in tiles with the weights that they have."""

import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny
from tiny_codecs import dc, kl, latents_for, made, taesd

from gensynth.autoencoders.tiling import codec_of, decode_tiled, default_tiles
from gensynth.errors import UsageError


@pytest.mark.parametrize(
    ("theirs", "ours"), [(AutoencoderKL, kl), (AutoencoderDC, dc), (AutoencoderTiny, taesd)]
)
def test_it_is_the_same_with_the_same_weights(theirs, ours):
    twin = made(ours, seed=1)
    autoencoder = theirs.from_config(twin.config).eval()
    autoencoder.load_state_dict(twin.state_dict())
    codec = codec_of(autoencoder)
    assert type(codec) is type(twin)
    latents = latents_for(twin, 6, 9)
    assert torch.equal(codec.decode(latents), twin.decode(latents))
    assert torch.equal(
        decode_tiled(codec, latents, default_tiles(codec)),
        decode_tiled(twin, latents, default_tiles(twin)),
    )
    shared = dict(autoencoder.named_parameters())
    assert all(
        tensor.data_ptr() == shared[name].data_ptr() for name, tensor in codec.named_parameters()
    )
    assert codec_of(codec) is codec


def test_what_asks_for_32_bits_is_decoded_in_them():
    twin = made(kl, seed=1)
    half = AutoencoderKL.from_config(twin.config, force_upcast=True).half()
    assert codec_of(half).dtype == torch.float32 and half.dtype == torch.float16
    assert codec_of(AutoencoderKL.from_config(twin.config, force_upcast=False).half()).dtype == (
        torch.float16
    )


def test_others_are_refused_by_name():
    with pytest.raises(UsageError, match=r"this Linear is not .*vae_tiling=true"):
        codec_of(torch.nn.Linear(1, 1))
    by_channel = AutoencoderKL.from_config(
        made(kl).config, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    with pytest.raises(UsageError, match=r"this AutoencoderKL is not .* one scale"):
        codec_of(by_channel)
