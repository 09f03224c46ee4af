"""A folder of samples that is damaged, or that two programs draw into."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gensynth.conditions import Nothing
from gensynth.errors import CorruptError, InputError, RefusedError
from gensynth.files import write_text
from gensynth.sampling.generate import Picture
from gensynth.sampling.outputs import SampleFolder, read_recipe, recipe, save_picture
from gensynth.settings import Settings

JOB = {"model": "m", "seed": 0}
SHAPE = (3, 4, 4, 1)


def draw(folder, indices, kind="png"):
    for index in indices:
        image = Image.fromarray(np.full((4, 4), index, np.uint8))
        folder.write(Picture(index, 0, index), image, None)


@pytest.mark.parametrize("kind", ["png", "npz"])
def test_two_samplers_in_one_folder_lose_nothing(tmp_path, kind):
    one = SampleFolder(tmp_path, JOB, kind, SHAPE)
    two = SampleFolder(tmp_path, JOB, kind, SHAPE)
    draw(one, [0, 1])
    draw(two, [1, 2])
    for folder in (one, two):
        folder.close()
        folder.finish([0, 0, 0])
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    if kind == "npz":
        with np.load(tmp_path / "samples.npz") as arrays:
            assert arrays["arr_0"][:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_second_job_is_refused(tmp_path):
    SampleFolder(tmp_path, JOB, "png", SHAPE)
    with pytest.raises(RefusedError, match="seed was 0, now 1"):
        SampleFolder(tmp_path, JOB | {"seed": 1}, "png", SHAPE)
    assert json.loads((tmp_path / "job.json").read_text()) == JOB


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, "\udcff"])
def test_a_damaged_description_is_said(tmp_path, content):
    (tmp_path / "job.json").write_text(content, errors="surrogateescape")
    with pytest.raises(CorruptError, match=r"job\.json is damaged"):
        SampleFolder(tmp_path, JOB, "png", SHAPE)


LINES = [
    b"\xff\xfe",
    b"7",
    b'{"index": "0", "sha256": "x"}',
    b'{"index": true, "sha256": "x"}',
    b'{"sha256": "x"}',
    b'{"index": -1, "sha256": "x"}',
    b"[" * 100_000,
    b'{"index": ' + b"9" * 5000 + b', "sha256": "x"}',
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
@pytest.mark.parametrize("kind", ["png", "npz"])
def test_a_damaged_manifest_is_read_as_far_as_it_goes(tmp_path, kind, line):
    first = SampleFolder(tmp_path, JOB, kind, SHAPE)
    draw(first, [0, 1, 2])
    first.close()
    manifest = tmp_path / "manifest-0.jsonl"
    kept = manifest.read_bytes().splitlines()[1:]
    manifest.write_bytes(b"\n".join([line, *kept]) + b"\n")
    again = SampleFolder(tmp_path, JOB, kind, SHAPE)
    assert again.done == {1, 2}
    draw(again, [0])
    again.finish([0, 0, 0])


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"garbage", None])
def test_a_damaged_array_is_said(tmp_path, content):
    SampleFolder(tmp_path, JOB, "npz", SHAPE).close()
    array = tmp_path / "pictures.npy"
    if content is None:  # of another shape
        np.save(array, np.zeros((2, 4, 4, 1), np.uint8))
    else:
        array.write_bytes(content)
    with pytest.raises(CorruptError, match=r"pictures\.npy is damaged"):
        SampleFolder(tmp_path, JOB, "npz", SHAPE)


@pytest.mark.parametrize("text", ["{", "[1]", "7", "[" * 100_000])
def test_a_damaged_recipe_is_said(tmp_path, text):
    chunks = PngInfo()
    chunks.add_itxt("gensynth", text)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(InputError, match=r"the recipe in .*a\.png is damaged"):
        read_recipe(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    with pytest.raises(InputError, match="not a readable picture"):
        read_recipe(tmp_path / "b.png")


def test_a_picture_without_recipe_has_none(tmp_path):
    save_picture(Image.new("L", (4, 4)), tmp_path / "a.png", None)
    assert read_recipe(tmp_path / "a.png") is None


def test_the_name_of_a_model_that_is_no_text_is_spelt(tmp_path):
    """A folder called by bytes that are no UTF-8, as unpacked from an archive of another system."""
    pipeline = SimpleNamespace(name="out-\udcff", condition=Nothing(), lora=None)
    settings = Settings(size=4, steps=1, guidance=1.0, scheduler="s")
    written = recipe(pipeline, Picture(0, None, 7), settings)
    for kind in ("png", "webp", "tif"):
        save_picture(Image.new("L", (4, 4)), tmp_path / f"a.{kind}", written)
        assert read_recipe(tmp_path / f"a.{kind}")["model"] == "out-\\udcff"
    write_text(tmp_path / "a.txt", "out-\udcff")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "out-\\udcff"
