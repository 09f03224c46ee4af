"""Pictures that are decoded into a file band by band."""

import errno
import json
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tiny_codecs import grey_vq, latents_for, made, tiny

from gensynth.autoencoders.tiling import Tiles, decode_bands
from gensynth.data.streams import Shape
from gensynth.errors import OutputError, UsageError
from gensynth.sampling.generate import Picture
from gensynth.sampling.outputs import SampleFolder, read_recipe, save_picture
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


def test_a_large_png_without_recipe_is_not_read_for_one(tmp_path):
    path = tmp_path / "a.png"
    save_bands([torch.zeros(1, 3, 9, 9, dtype=torch.uint8)], path, Shape(9, 9, 3), None)
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2  # says that it has 3.6 billion pixels
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    assert read_recipe(path) is None


def test_a_full_disk_is_told_with_what_to_do(tmp_path):
    def bands():
        yield torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="free some space or choose another --out"):
        save_bands(bands(), tmp_path / "a.tif", Shape(18, 9, 3), None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_folder_takes_pictures_in_bands_and_goes_on_after_them(kind, tmp_path):
    codec = made(tiny)
    shape = (2, 40, 24, 3)
    folder = SampleFolder(tmp_path, {"seed": 0}, kind, shape)
    bands = decode_bands(codec, latents_for(codec, 5, 3), Tiles(2, 19))
    folder.write_bands(Picture(1, 3, 7), bands, RECIPE)
    folder.close()
    assert read_recipe(tmp_path / f"000001.{kind}") == RECIPE
    again = SampleFolder(tmp_path, {"seed": 0}, kind, shape)
    assert again.done == {1}
    again.write_bands(Picture(0, 2, 6), [torch.zeros(1, 3, 40, 24, dtype=torch.uint8)], None)
    again.finish([2, 3])
    again.close()
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [2, 3]


@pytest.mark.parametrize("kind", ["webp", "npz"])
def test_whole_pictures_only_in_other_kinds(kind, tmp_path):
    folder = SampleFolder(tmp_path, {"seed": 0}, kind, (1, 8, 8, 3))
    with pytest.raises(UsageError, match=r"written band by band as \.png, \.tif"):
        folder.write_bands(Picture(0, 0, 0), [torch.zeros(1, 3, 8, 8, dtype=torch.uint8)], None)
    folder.close()


def test_a_large_tiff_from_memory_has_a_pyramid(tmp_path):
    save_picture(Image.new("RGB", (300, 40), "teal"), tmp_path / "a.tif", RECIPE)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [level.shape for level in file.series[0].levels] == [(40, 300, 3), (20, 150, 3)]
    assert read_recipe(tmp_path / "a.tif") == RECIPE
