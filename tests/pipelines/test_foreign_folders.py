"""Folders of other libraries are refused with what can be done with them."""

import json
from pathlib import Path

import pytest

import gensynth
from gensynth.errors import InputError


def written(folder: Path, name: str, **content) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def test_a_pipeline_of_diffusers_names_its_autoencoder(tmp_path):
    folder = written(
        tmp_path / "sd",
        "model_index.json",
        _class_name="StableDiffusionUpscalePipeline",
        _diffusers_version="0.30.0",
        vae=["diffusers", "AutoencoderKL"],
        unet=["diffusers", "UNet2DConditionModel"],
    )
    with pytest.raises(InputError) as error:
        gensynth.load(folder)
    said = str(error.value)
    assert "UpscalePipeline of diffusers 0.30.0, which gensynth cannot draw with" in said
    assert "Of diffusers: StableDiffusionPipeline, " in said
    assert f"autoencoder.kind=kl autoencoder.path={folder / 'vae'}" in said


def test_the_advice_works(tmp_path, tiny_vae_folder):
    from gensynth.autoencoders import open_autoencoder

    with pytest.raises(InputError, match="is an autoencoder by itself") as error:
        gensynth.load(tiny_vae_folder)
    advised = dict(word.split("=") for word in str(error.value).rstrip(".").split()[-2:])
    codec = open_autoencoder(advised["autoencoder.path"], advised["autoencoder.kind"])
    assert codec.patch == 8


def test_dits_pipeline_is_sent_to_convert(tmp_path):
    index = {"_class_name": "DiTPipeline", "_diffusers_version": "0.30.0"}
    folder = written(tmp_path / "dit", "model_index.json", **index)
    with pytest.raises(InputError, match="gensynth convert --from dit"):
        gensynth.load(folder)


def test_a_part_by_itself(tmp_path):
    folder = written(tmp_path / "unet", "config.json", _class_name="UNet2DConditionModel")
    with pytest.raises(InputError, match="give the folder above it"):
        gensynth.load(folder)


def test_a_pipeline_that_nobody_knows(tmp_path):
    folder = written(tmp_path / "other", "model_index.json", _class_name="MyPipeline")
    with pytest.raises(InputError, match="MyPipeline, which gensynth does not know"):
        gensynth.load(folder)
