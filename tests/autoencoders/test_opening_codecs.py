"""Where a pretrained codec is found, and how one that cannot be used is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gensynth.autoencoders import (
    KLAutoencoder,
    PixelAutoencoder,
    TinyAutoencoder,
    VQAutoencoder,
    open_autoencoder,
)
from gensynth.errors import CorruptError, InputError, UsageError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def vae(tiny_vae_folder, tmp_path) -> Path:
    """A folder of an AutoencoderKL that may be changed."""
    return Path(shutil.copytree(tiny_vae_folder, tmp_path / "vae"))


def vq_folder(folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        VQAutoencoder(3, (8, 8), 1, 8, 16, 4, attention=False, norm_groups=2).save_pretrained(
            folder
        )
    return folder


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("place", ["", "autoencoder", "model/autoencoder", "model"])
def test_a_codec_is_found_where_models_and_runs_keep_it(vae, tmp_path, place):
    shutil.copytree(vae, tmp_path / "run" / place)
    assert isinstance(open_autoencoder(str(tmp_path / "run"), "kl"), KLAutoencoder)


@pytest.mark.parametrize("run", ["tokenizer", "tokenizer/model"])
def test_a_tokenizer_is_found_in_its_run_and_its_pipeline(tmp_path, run):
    vq_folder(tmp_path / "tokenizer" / "model" / "model")
    assert isinstance(open_autoencoder(str(tmp_path / run), "vq"), VQAutoencoder)


@pytest.mark.parametrize("of_run", ["", "model"])
def test_a_backbone_is_passed_over_for_the_codec_beside_it(vae, make_model, tmp_path, of_run):
    make_model().save_pretrained(tmp_path / "run" / of_run / "model")
    shutil.copytree(vae, tmp_path / "run" / of_run / "autoencoder")
    assert isinstance(open_autoencoder(str(tmp_path / "run"), "kl"), KLAutoencoder)


def test_a_tokenizer_that_was_trained_on_latents_is_not_mixed_up_with_its_codec(vae, tmp_path):
    vq_folder(tmp_path / "run" / "model" / "model")
    shutil.copytree(vae, tmp_path / "run" / "model" / "autoencoder")
    assert open_autoencoder(str(tmp_path / "run"), "vq").kind == "vq"
    assert open_autoencoder(str(tmp_path / "run"), "kl").kind == "kl"


def test_a_model_of_pixels_has_no_codec_to_open(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    PixelAutoencoder(1, 2).save_pretrained(tmp_path / "autoencoder")
    with pytest.raises(UsageError, match=r"model' is of class DiCo; .*kind kl takes AutoencoderKL"):
        open_autoencoder(str(tmp_path), "kl")


# TAESD as published


def published(folder: Path, channels: int = 4, normed: bool = False) -> TinyAutoencoder:
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = TinyAutoencoder(channels, normed).half()
    for part in ("encoder", "decoder"):
        save_file(getattr(codec, part).state_dict(), folder / f"{part}.safetensors")
    return codec


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("normed", [True, False])
def test_published_weights_tell_their_own_shape(tmp_path, channels, normed):
    own = published(tmp_path, channels, normed).float().state_dict()
    codec = open_autoencoder(str(tmp_path), "kl")
    assert (codec.config.latent_channels, codec.config.normed) == (channels, normed)
    assert all(torch.equal(own[name], tensor) for name, tensor in codec.state_dict().items())
    assert codec.state_dict().keys() == own.keys()
    assert all(parameter.dtype == torch.float32 for parameter in codec.parameters())
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    codec.save_pretrained(tmp_path / "saved")
    assert isinstance(open_autoencoder(str(tmp_path / "saved"), "kl"), TinyAutoencoder)


@pytest.mark.parametrize("damage", ["cut", "missing tensor", "other", "flat", "wider"])
def test_damaged_published_weights_are_refused(tmp_path, damage):
    published(tmp_path)
    path = tmp_path / "decoder.safetensors"
    weights = load_file(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        if damage == "missing tensor":
            del weights["3.conv.0.bias"]
        elif damage == "other":
            weights = {"layers.0.weight": torch.zeros(1)}
        elif damage == "flat":
            weights["1.weight"] = torch.zeros(4)
        else:
            weights["1.weight"] = torch.zeros(64, 5, 3, 3)
        save_file(weights, path)
    with pytest.raises(CorruptError) as caught:
        open_autoencoder(str(tmp_path), "kl")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_half_of_the_published_weights_is_not_an_autoencoder(tmp_path):
    published(tmp_path)
    (tmp_path / "encoder.safetensors").unlink()
    with pytest.raises(InputError, match="no autoencoder in the folder"):
        open_autoencoder(str(tmp_path), "kl")


# What is refused


def test_a_codec_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(InputError, match=r"owner/vae.*--vae FOLDER") as caught:
        open_autoencoder("owner/vae", "kl")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"no autoencoder.*VQModel"):
        open_autoencoder(str(tmp_path / "nowhere"), "vq")
    with pytest.raises(InputError, match="no autoencoder in the folder"):
        open_autoencoder(str(tmp_path), "kl")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "AutoencoderKLWan"}, "AutoencoderKLWan; autoencoder.kind kl takes"),
        ({"_class_name": None}, "is of class None; autoencoder.kind kl takes"),
        ({"_class_name": "VQModel"}, "VQModel; it needs autoencoder.kind vq"),
        ({"in_channels": 1}, "not one of RGB"),
        ({"out_channels": 4}, "not one of RGB"),
        ({"latents_mean": [0.0] * 4}, "latents_mean"),
    ],
)
def test_another_kind_of_autoencoder_is_refused(vae, changes, words):
    edit(vae, **changes)
    with pytest.raises(UsageError, match=words) as caught:
        open_autoencoder(str(vae), "kl")
    assert str(vae) in str(caught.value)


def test_kinds_are_not_mixed_up(vae, tmp_path):
    with pytest.raises(UsageError, match=r"it needs autoencoder\.kind kl"):
        open_autoencoder(str(vae), "vq")
    with pytest.raises(UsageError, match=r"VQAutoencoder; it needs autoencoder\.kind vq"):
        open_autoencoder(str(vq_folder(tmp_path / "vq")), "kl")
    published(tmp_path / "taesd")
    with pytest.raises(UsageError, match=r"TinyAutoencoder; it needs autoencoder\.kind kl"):
        open_autoencoder(str(tmp_path / "taesd"), "vq")
    with pytest.raises(UsageError, match="kl and vq are opened, got 'none'"):
        open_autoencoder(str(vae), "none")


@pytest.mark.parametrize("damage", ["cut", "missing tensor", "wider", "missing file", "pickle"])
@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_a_damaged_codec_is_refused(vae, tmp_path, kind, damage):
    folder = vae if kind == "kl" else vq_folder(tmp_path / "vq")
    path = folder / WEIGHTS
    weights = load_file(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "missing tensor":
        del weights["encoder.conv_in.weight"]
        save_file(weights, path)
    elif damage == "wider":
        weights["encoder.conv_in.weight"] = torch.zeros(9, 3, 3, 3)
        save_file(weights, path)
    else:
        path.unlink()
        if damage == "pickle":
            torch.save(weights, folder / "diffusion_pytorch_model.bin")
    missing = damage in ("missing file", "pickle")
    with pytest.raises(InputError if missing else CorruptError) as caught:
        open_autoencoder(str(folder), kind)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_settings_are_refused(vae, text):
    (vae / "config.json").write_text(text)
    with pytest.raises(CorruptError, match=r"config\.json"):
        open_autoencoder(str(vae), "kl")
