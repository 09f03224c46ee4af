import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

import gensynth
from gensynth.autoencoders import (
    AUTOENCODERS,
    DCAutoencoder,
    KLAutoencoder,
    LatentVQ,
    PixelAutoencoder,
    TaesdAutoencoder,
    TinyAutoencoder,
    VQAutoencoder,
    VQModelAutoencoder,
    open_autoencoder,
)
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.samplers.registry import create_scheduler
from gensynth.seeding import StepRandom


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
    assert latents.is_contiguous(memory_format=torch.channels_last)
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


CODECS = {
    "none": (PixelAutoencoder, "none"),
    "pixels": (PixelAutoencoder, "none"),
    "kl": (KLAutoencoder, "kl"),
    "dc": (DCAutoencoder, "kl"),
    "taesd": (TaesdAutoencoder, "kl"),
    "taef2": (TinyAutoencoder, "kl"),
    "vq": (VQAutoencoder, "vq"),
    "vqmodel": (VQModelAutoencoder, "vq"),
    "latent-vq": (LatentVQ, "vq"),
}


def test_by_name_and_kind():
    assert {name: (codec, codec.kind) for name, codec in AUTOENCODERS.items()} == CODECS


def test_save_and_load(tmp_path):
    PixelAutoencoder(1, 4).save_pretrained(tmp_path)
    loaded = PixelAutoencoder.from_pretrained(tmp_path)
    assert (loaded.channels, loaded.patch) == (1, 4)


# Continuous latents


def kl() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[4, 4, 8],
        norm_num_groups=2,
        scaling_factor=0.7,
        shift_factor=0.3,
    )


def dc() -> AutoencoderDC:
    blocks = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in {
            "block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"],
            "block_out_channels": [8, 8, 8],
            "layers_per_block": [1, 1, 1],
            "qkv_multiscales": [[], [], [5]],
        }.items()
    }
    return AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.4, **blocks)


def taesd() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=[8, 8, 8],
        decoder_block_out_channels=[8, 8, 8],
        num_encoder_blocks=[1, 1, 1],
        num_decoder_blocks=[1, 1, 1],
        scaling_factor=1.5,
        shift_factor=0.25,
    )


def of_diffusers(create: Callable):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create().eval()


def encoded(theirs, images):
    """The latents that diffusers' own class makes, without scaling."""
    output = theirs.encode(images / 127.5 - 1)
    if isinstance(theirs, AutoencoderKL):
        return output.latent_dist.mean
    return output.latent if isinstance(theirs, AutoencoderDC) else output.latents


each = pytest.mark.parametrize(
    ("create", "expected", "scale", "shift"),
    [
        (kl, KLAutoencoder, 0.7, 0.3),
        (dc, DCAutoencoder, 0.4, 0.0),
        (taesd, TaesdAutoencoder, 1.5, 0.25),
    ],
)


@each
@torch.no_grad()
def test_it_is_the_autoencoder_of_diffusers_scaled(create, expected, scale, shift, photo, tmp_path):
    theirs = of_diffusers(create)
    theirs.save_pretrained(tmp_path)
    codec = open_autoencoder(str(tmp_path), "kl")
    assert type(codec) is expected
    latents = codec.encode(photo)
    torch.testing.assert_close(latents, (encoded(theirs, photo) - shift) * scale)
    assert (codec.patch, codec.channels, codec.dtype) == (4, 3, torch.float32)
    assert latents.shape == (4, *codec.latent_shape(16, 24)) == (4, 4, 4, 6)
    assert latents.is_contiguous(memory_format=torch.channels_last)
    pixels = theirs.decode(latents / scale + shift).sample
    levels = (127.5 * pixels + 128).clamp(0, 255).to(torch.uint8)
    decoded = codec.decode(latents)
    assert decoded.dtype == torch.uint8
    assert levels.float().std() > 1  # else the next line would compare nothing
    assert (decoded.int() - levels.int()).abs().max() <= 1  # rounding
    assert torch.equal(codec.decode(latents.bfloat16()), codec.decode(latents.bfloat16().float()))


@each
def test_it_is_frozen_and_float32_whatever_was_saved(
    create, expected, scale, shift, photo, tmp_path
):
    of_diffusers(create).half().save_pretrained(tmp_path)
    codec = open_autoencoder(str(tmp_path), "kl")
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in codec.parameters())
    assert not codec.training
    assert not codec.encode(photo, step_random()).requires_grad


def tiny() -> TinyAutoencoder:
    return TinyAutoencoder(4, normed=True)


@pytest.mark.parametrize("create", [kl, dc, taesd, tiny])
def test_a_saved_pipeline_holds_the_codec(create, photo, make_model, tmp_path):
    of_diffusers(create).save_pretrained(tmp_path / "codec")
    codec = open_autoencoder(str(tmp_path / "codec"), "kl")
    pipeline = ClassConditionalPipeline(
        make_model(), create_scheduler(None, "velocity"), codec, size=32, steps=2
    )
    pipeline.classes = [str(number) for number in range(10)]
    pipeline.save_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "codec")
    loaded = gensynth.load(tmp_path / "model", device="cpu").autoencoder
    again = open_autoencoder(str(tmp_path / "model"), "kl")
    assert type(loaded) is type(again) is type(codec)
    latents = codec.encode(photo)
    for other in (loaded.eval(), again):
        torch.testing.assert_close(other.encode(photo), latents)
        assert (other.decode(latents).int() - codec.decode(latents).int()).abs().max() <= 1


@torch.no_grad()
def test_the_tiny_one_bends_latents_and_takes_pixels_from_0_to_1(photo):
    codec = of_diffusers(tiny)
    latents = codec.encode(photo)
    torch.testing.assert_close(latents, codec.encoder(photo / 255))
    assert latents.shape == (4, *codec.latent_shape(16, 24)) == (4, 4, 2, 3)
    assert latents.is_contiguous(memory_format=torch.channels_last)
    levels = (255 * codec.decoder(latents) + 0.5).clamp(0, 255).to(torch.uint8)
    assert (codec.decode(latents).int() - levels.int()).abs().max() <= 1  # rounding
    assert torch.equal(codec.decode(latents + 100), codec.decode(latents + 200))


# KL


@pytest.fixture(scope="module")
def vae(tiny_vae_folder):
    return open_autoencoder(str(tiny_vae_folder), "kl")


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 16, 24), generator=generator, dtype=torch.uint8)


def step_random(step: int = 0, rows: slice = slice(0, 4)) -> StepRandom:
    return StepRandom(5, step, rows, 4)


def test_kl_samples_the_posterior_with_the_numbers_of_the_step(vae, photo):
    drawn = vae.encode(photo, step_random())
    assert torch.equal(drawn, vae.encode(photo, step_random()))
    assert not torch.equal(drawn, vae.encode(photo, step_random(1)))
    with torch.no_grad():
        posterior = AutoencoderKL.encode(vae, photo / 127.5 - 1).latent_dist
    noise = step_random().normal(4, 2, 3)
    torch.testing.assert_close(drawn, (posterior.mean + posterior.std * noise) * 0.18215)


def test_kl_samples_the_same_in_micro_batches(vae, photo):
    whole = vae.encode(photo, step_random())
    half = vae.encode(photo[2:], step_random(rows=slice(2, 4)))
    torch.testing.assert_close(half, whole[2:])


def save(vae: KLAutoencoder, folder: Path) -> Path:
    vae.save_pretrained(folder)
    return folder


def test_what_is_saved_is_a_vae_of_diffusers(vae, photo, tmp_path):
    folder = save(vae, tmp_path / "saved")
    assert [path.name for path in folder.glob("*.safetensors")]
    theirs = AutoencoderKL.from_pretrained(folder).state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in vae.state_dict().items())
    assert torch.equal(open_autoencoder(str(folder), "kl").encode(photo), vae.encode(photo))


def test_old_names_of_the_attention_load(vae, tmp_path):
    # As in stabilityai/sd-vae-ft-ema, which is older than diffusers' present names.
    folder = save(vae, tmp_path / "old")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, tensor in vae.state_dict().items():
        for new, before in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
        weights[name] = tensor
    assert weights.keys() != vae.state_dict().keys()
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    loaded = open_autoencoder(str(folder), "kl").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in vae.state_dict().items())


def test_numbers_of_the_step_stay_as_they_are():
    random, other = step_random(), step_random()
    other.apart("autoencoder").normal(4, 4)
    assert torch.equal(random.normal(3), other.normal(3))
    assert not torch.equal(step_random().normal(3), step_random().apart("autoencoder").normal(3))
