"""The tiny FLUX.2 autoencoder, with its real weights, is the published function: taesd."""

import torch
from reference import load_reference

from gensynth.autoencoders import TinyAutoencoder, open_autoencoder


def taef2() -> TinyAutoencoder:
    return open_autoencoder("taef2", "kl")


def test_the_real_weights_open():
    model = taef2()
    assert type(model) is TinyAutoencoder
    assert (model.config.latent_channels, model.config.normed) == (32, True)
    assert model.latent_shape(64, 96) == (32, 8, 12)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@torch.inference_mode()
def test_encode_and_decode():
    reference, model = load_reference("taef2/encode_decode.safetensors"), taef2()
    latent = model.encoder(reference.input["image"])
    reference.check("latent", latent)
    reference.check("decoded", model.decoder(latent))
    reference.check("decoded_big", model.decoder(reference.input["big_latent"]))
    reference.check("scaled_latent", (latent / 6 + 0.5).clamp(0, 1))
    eight_bit = (reference.output["scaled_latent"] * 255).round() / 255
    decoded = model.decoder((eight_bit - 0.5) * 6).clamp(0, 1)
    reference.check("decoded_8bit", decoded)


def test_from_levels_to_levels():
    reference, model = load_reference("taef2/encode_decode.safetensors"), taef2()
    images = reference.input["image_u8"].permute(2, 0, 1)[None]
    latents = model.encode(images)
    assert latents.shape[1:] == model.latent_shape(64, 64)
    again = model.decode(latents)
    assert again.dtype == torch.uint8 and again.shape == images.shape
    expected = (255 * reference.output["decoded"] + 0.5).clamp(0, 255)
    assert (again.float() - expected).abs().max() <= 1  # rounded down to whole levels
