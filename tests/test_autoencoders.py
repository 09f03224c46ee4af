import pytest
import torch

from gensynth.autoencoders import AUTOENCODERS, PixelAutoencoder


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_all_256_values_come_back(channels, patch):
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, channels, 1, 1)
    images[1] = images[1].flip(-1)
    codec = PixelAutoencoder(channels, patch)
    latents = codec.encode(images)
    assert latents.dtype == torch.float32
    assert latents.shape == (2, *codec.latent_shape(16, 16))
    assert latents.shape == (2, channels * patch**2, 16 // patch, 16 // patch)
    assert (latents.min(), latents.max()) == (-1, 1)
    assert torch.equal(codec.decode(latents), images)


def test_the_latent_shape_is_not_square_for_pictures_that_are_not():
    assert PixelAutoencoder(3, 2).latent_shape(32, 48) == (12, 16, 24)


def test_the_pixels_of_a_square_become_channels():
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    latents = PixelAutoencoder(1, 2).encode(images)
    top_left = (latents[0, :, 0, 0] + 1) * 127.5
    assert top_left.round().int().tolist() == [0, 1, 4, 5]


def test_rounding_is_the_floor_of_127_5_x_plus_128():
    values = torch.linspace(-1.2, 1.2, 10_001)
    expected = (127.5 * values + 128).floor().clamp(0, 255).to(torch.uint8)
    decoded = PixelAutoencoder(1, 1).decode(values.view(1, 1, 1, -1)).flatten()
    assert torch.equal(decoded, expected)


@pytest.mark.parametrize(
    ("value", "level"), [(-50.0, 0), (50.0, 255), (0.0, 128), (-1.0, 0), (1.0, 255)]
)
def test_levels(value, level):
    assert PixelAutoencoder(1, 1).decode(torch.full((1, 1, 1, 1), value)).item() == level


def test_half_precision_latents_decode():
    latents = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.bfloat16).view(1, 1, 1, 3)
    assert PixelAutoencoder(1, 1).decode(latents).flatten().tolist() == [0, 128, 255]


def test_by_name():
    assert AUTOENCODERS["pixels"] is PixelAutoencoder


def test_save_and_load(tmp_path):
    PixelAutoencoder(1, 4).save_pretrained(tmp_path)
    loaded = PixelAutoencoder.from_pretrained(tmp_path)
    assert (loaded.channels, loaded.patch) == (1, 4)
