import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from gensynth.autoencoders import AUTOENCODERS, KLAutoencoder, PixelAutoencoder
from gensynth.errors import CorruptError, InputError, UsageError
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
    assert AUTOENCODERS["kl"] is KLAutoencoder


def test_save_and_load(tmp_path):
    PixelAutoencoder(1, 4).save_pretrained(tmp_path)
    loaded = PixelAutoencoder.from_pretrained(tmp_path)
    assert (loaded.channels, loaded.patch) == (1, 4)


# KL


@pytest.fixture(scope="module")
def vae(tiny_vae_folder):
    return KLAutoencoder.open(str(tiny_vae_folder))


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 16, 24), generator=generator, dtype=torch.uint8)


def step_random(step: int = 0, rows: slice = slice(0, 4)) -> StepRandom:
    return StepRandom(5, step, rows, 4)


def test_kl_is_the_vae_of_diffusers_scaled(vae, photo, tiny_vae_folder):
    theirs = AutoencoderKL.from_pretrained(tiny_vae_folder)
    with torch.no_grad():
        mean = theirs.encode(photo / 127.5 - 1).latent_dist.mean * 0.18215
        decoded = theirs.decode(mean / 0.18215).sample
    latents = vae.encode(photo)
    torch.testing.assert_close(latents, mean)
    assert latents.shape == (4, *vae.latent_shape(16, 24)) == (4, 4, 2, 3)
    levels = (127.5 * decoded + 128).clamp(0, 255).to(torch.uint8)
    assert (vae.decode(latents).int() - levels.int()).abs().max() <= 1  # rounding
    assert (vae.patch, vae.channels) == (8, 3)


def test_kl_is_frozen(vae, photo):
    assert not any(parameter.requires_grad for parameter in vae.parameters())
    assert not vae.training
    assert vae.dtype == torch.float32
    assert not vae.encode(photo, step_random()).requires_grad


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


def test_a_shift_is_taken_off_and_put_back(vae, photo, tmp_path):
    shutil.copytree(vae_folder := save(vae, tmp_path / "a"), tmp_path / "b")
    edit(tmp_path / "b" / "config.json", shift_factor=0.5)
    shifted = KLAutoencoder.open(str(tmp_path / "b"))
    plain = KLAutoencoder.open(str(vae_folder))
    latents = shifted.encode(photo)
    torch.testing.assert_close(latents, plain.encode(photo) - 0.5 * 0.18215)
    difference = shifted.decode(latents).int() - plain.decode(plain.encode(photo)).int()
    assert difference.abs().max() <= 1


def save(vae: KLAutoencoder, folder: Path) -> Path:
    vae.save_pretrained(folder)
    return folder


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_saved_is_a_vae_of_diffusers(vae, photo, tmp_path):
    folder = save(vae, tmp_path / "saved")
    assert [path.name for path in folder.glob("*.safetensors")]
    theirs = AutoencoderKL.from_pretrained(folder).state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in vae.state_dict().items())
    assert torch.equal(KLAutoencoder.open(str(folder)).encode(photo), vae.encode(photo))


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
    loaded = KLAutoencoder.open(str(folder)).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in vae.state_dict().items())


def test_a_vae_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(InputError, match=r"owner/vae.*--vae FOLDER") as caught:
        KLAutoencoder.open("owner/vae")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no autoencoder"):
        KLAutoencoder.open(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "AutoencoderTiny"}, "AutoencoderTiny"),
        ({"in_channels": 1}, "not one of RGB"),
        ({"latents_mean": [0.0] * 4}, "latents_mean"),
    ],
)
def test_another_kind_of_autoencoder_is_refused(vae, tmp_path, changes, words):
    folder = save(vae, tmp_path / "vae")
    edit(folder / "config.json", **changes)
    with pytest.raises(UsageError, match=words):
        KLAutoencoder.open(str(folder))


@pytest.mark.parametrize("damage", ["cut", "missing tensor", "wider", "missing file", "pickle"])
def test_a_damaged_vae_is_refused(vae, tmp_path, damage):
    folder = save(vae, tmp_path / "vae")
    path = folder / "diffusion_pytorch_model.safetensors"
    weights = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "missing tensor":
        del weights["encoder.conv_in.weight"]
        save_file(weights, path)
    elif damage == "wider":
        weights["encoder.conv_in.weight"] = torch.zeros(8, 3, 3, 3)
        save_file(weights, path)
    else:
        path.unlink()
        if damage == "pickle":
            torch.save(weights, folder / "diffusion_pytorch_model.bin")
    with pytest.raises((CorruptError, InputError)) as caught:
        KLAutoencoder.open(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_numbers_of_the_step_stay_as_they_are():
    random, other = step_random(), step_random()
    other.apart("autoencoder").normal(4, 4)
    assert torch.equal(random.normal(3), other.normal(3))
    assert not torch.equal(step_random().normal(3), step_random().apart("autoencoder").normal(3))
