"""Pictures that are decoded into a file band by band."""

import errno

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_codecs import grey_vq, latents_for, made, tiny

from gensynth.autoencoders.tiling import Tiles, decode_bands
from gensynth.data.streams import Shape
from gensynth.errors import OutputError
from gensynth.sampling.outputs import read_recipe, save_picture
from gensynth.sampling.streaming import save_bands

RECIPE = {
    "prompt": "ein Fuß 🦶, を",
    "size": [40, 24],
    "steps": 3,
    "scheduler": "euler",
    "guidance": 1.5,
    "seed": 7,
    "model": "a",
}


@pytest.mark.parametrize("create", [tiny, grey_vq])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_what_is_decoded_lies_in_the_file_with_its_recipe(create, name, tmp_path):
    codec = made(create)
    latents = latents_for(codec, 5, 3)
    shape = Shape(5 * codec.patch, 3 * codec.patch, codec.channels)
    save_bands(decode_bands(codec, latents, Tiles(2, 19)), tmp_path / name, shape, RECIPE)
    with Image.open(tmp_path / name) as image:
        stored = np.asarray(image).astype(int).reshape(shape.height, shape.width, -1)
    whole = codec.decode(latents)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(stored - whole).max() <= 1
    assert read_recipe(tmp_path / name) == RECIPE


def test_a_png_says_what_those_from_memory_say(tmp_path):
    picture = torch.zeros(1, 3, 40, 24, dtype=torch.uint8)
    save_bands([picture], tmp_path / "a.png", Shape(40, 24, 3), RECIPE)
    save_picture(Image.new("RGB", (24, 40)), tmp_path / "b.png", RECIPE)
    with Image.open(tmp_path / "a.png") as ours, Image.open(tmp_path / "b.png") as theirs:
        assert ours.info == theirs.info and ours.info["parameters"].startswith("ein Fuß")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_recipes_of_pictures_that_pillow_calls_too_large_are_read(name, tmp_path, monkeypatch):
    save_bands(
        [torch.zeros(1, 3, 9, 9, dtype=torch.uint8)], tmp_path / name, Shape(9, 9, 3), RECIPE
    )
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / name)
    assert read_recipe(tmp_path / name) == RECIPE


def test_a_full_disk_is_told_with_what_to_do(tmp_path):
    def bands():
        yield torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="free some space or choose another --out"):
        save_bands(bands(), tmp_path / "a.tif", Shape(18, 9, 3), None)
    assert list(tmp_path.iterdir()) == []
