"""Settings out of pictures, and out of files that only claim to be pictures."""

import json
import random
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gensynth import create_model
from gensynth.autoencoders.pixels import PixelAutoencoder
from gensynth.errors import InputError
from gensynth.pipelines.unconditional import UnconditionalPipeline
from gensynth.samplers.registry import create_scheduler
from gensynth.sampling.outputs import save_picture
from gensynth_serve.pages.restore import MAX_RECIPE_CHARS, command, restored

RECIPE = {
    "schema": 1,
    "model": "tiny",
    "label": 8,
    "class": "Bag",
    "seed": 7,
    "steps": 30,
    "guidance": 2.5,
    "scheduler": "FlowMatchEulerDiscreteScheduler",
    "size": [32, 32],
    "gensynth": "0.1.0",
}


@pytest.fixture(scope="module")
def pipelines(make_pipeline):
    return {"first": make_pipeline(), "tiny": make_pipeline()}


def png(path, text):
    """A PNG with this text where the recipe belongs."""
    chunks = PngInfo()
    chunks.add_itxt("gensynth", text if isinstance(text, str) else json.dumps(text))
    Image.new("L", (32, 32)).save(path, pnginfo=chunks)
    return path


def test_what_gensynth_saves_comes_back(tmp_path, pipelines):
    path = tmp_path / "a.png"
    save_picture(Image.new("L", (32, 32)), path, RECIPE)
    order, text = restored(path, pipelines, "first")
    assert (order.model, order.labels, order.num) == ("tiny", [8], 1)
    assert (order.seed, order.steps, order.guidance) == (7, 30, 2.5)
    assert text == "Restored: Bag, seed 7, 30 steps."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "elsewhere"}, "not served here"),
        ({"model": ["x"]}, "not served here"),
        ({"size": [640, 640]}, "its other settings cannot be used here: a side of a picture may"),
        ({"size": "x"}, "cannot be used here: size must be a whole number of pixels"),
        ({"scheduler": "UniPC"}, "cannot be used here: scheduler 'UniPC' does not fit"),
        ({"guide": "/etc"}, "cannot be used here: there is no guide '/etc' here"),
        ({"scheduler_options": {"solver_order": 9}}, "cannot be used here: scheduler_options"),
        ({"unknown": "<script>"}, "Restored"),
    ],
)
def test_what_the_page_cannot_do_is_said(tmp_path, pipelines, change, words):
    order, text = restored(png(tmp_path / "a.png", {**RECIPE, **change}), pipelines, "first")
    assert words in text
    assert order.model in pipelines and order.further == {}


def test_other_settings_come_back_too(tmp_path, pipelines):
    more = {"size": [64, 32], "scheduler": "FlowODEScheduler", "guidance_interval": [0.1, 0.5]}
    more |= {"guide": "first", "scheduler_options": {"method": "euler"}}
    order, text = restored(png(tmp_path / "a.png", {**RECIPE, **more}), pipelines, "tiny")
    assert order.further == more
    assert text == "Restored: Bag, seed 7, 30 steps."


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 1e999},
        {"steps": 10**9},
        {"steps": True},
        {"steps": "30"},
        {"guidance": float("nan")},
        {"label": 10},
        {"label": None},
        {"label": {}},
        {"label": "²"},
        {"schema": 2},
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, pipelines, change):
    with pytest.raises(InputError):
        restored(png(tmp_path / "a.png", {**RECIPE, **change}), pipelines, "tiny")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "[" * 5000,
        '{"schema": 1, "x": "' + "x" * MAX_RECIPE_CHARS + '"}',
    ],
    ids=range(7),
)
def test_text_that_is_no_recipe_is_refused(tmp_path, pipelines, text):
    with pytest.raises(InputError):
        restored(png(tmp_path / "a.png", text), pipelines, "tiny")


EDITED = {**RECIPE, "edit": {"image": "bag.png", "image_sha256": "0" * 16, "mask": None}}


def test_an_edited_picture_is_said_to_be_one(tmp_path, pipelines):
    order, text = restored(png(tmp_path / "a.png", EDITED), pipelines, "tiny")
    assert (order.labels, order.seed) == ([8], 7)
    assert text.startswith("Restored: Bag") and "edited from another picture" in text


def test_an_edited_picture_without_a_class_is_refused(tmp_path, pipelines):
    path = png(tmp_path / "a.png", {**EDITED, "label": None, "class": None})
    with pytest.raises(InputError, match="edited from another one without a class"):
        restored(path, pipelines, "tiny")


def test_pictures_of_others_and_other_formats_are_refused(tmp_path, pipelines):
    for name, options in (("a.png", {}), ("a.jpg", {}), ("a.gif", {}), ("a.tiff", {})):
        Image.new("L", (8, 8)).save(tmp_path / name, **options)
        with pytest.raises(InputError):
            restored(tmp_path / name, pipelines, "tiny")


def test_damaged_files_never_do_more_than_be_refused(tmp_path, pipelines):
    whole = png(tmp_path / "whole.png", RECIPE).read_bytes()
    path, rng = tmp_path / "damaged.png", random.Random(0)
    for _ in range(400):
        data = bytearray(whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(6) if data else 0):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            order, _ = restored(path, pipelines, "tiny")
        except InputError:
            continue
        assert 1 <= order.steps <= 250


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_too_large_to_decode_does_no_harm(tmp_path, pipelines):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0))
    text = chunk(b"iTXt", b"gensynth\0\0\0\0\0" + json.dumps(RECIPE).encode())
    bomb = chunk(b"iTXt", b"gensynth\0\1\0\0\0" + zlib.compress(b" " * 50_000_000))
    path = tmp_path / "a.png"
    for extra in (text, bomb):
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", b""))
        try:
            assert restored(path, pipelines, "tiny")[0].seed == 7
        except InputError:
            assert extra is bomb


def test_a_file_that_is_too_large_is_not_read(tmp_path, pipelines):
    path = tmp_path / "a.png"
    with path.open("wb") as stream:
        stream.truncate(21_000_000)
    with pytest.raises(InputError, match="larger than 20 MB"):
        restored(path, pipelines, "tiny")


def test_the_command_line_draws_the_picture_again():
    assert command(RECIPE) == (
        "gensynth sample --model tiny --labels index:8 --num 1 --seed 7 --steps 30 "
        "--guidance 2.5 --size 32x32 --scheduler FlowMatchEulerDiscreteScheduler --out DIR"
    )
    assert "--model 'a b; rm'" in command({**RECIPE, "model": "a b; rm"})
    further = {"guidance_interval": [0.1, 0.7], "guide": "$x", "scheduler_options": {"shift": 3.0}}
    line = command({**RECIPE, **further, "size": [16, 24]})
    assert "--guidance 2.5 --guidance-interval 0.1,0.7 --guide '$x' --size 16x24 " in line
    assert "--option shift=3.0 --out" in line


def test_a_picture_of_nothing_in_particular_comes_back(tmp_path, pipelines):
    pipeline = UnconditionalPipeline(
        create_model("DiCo-nano", num_classes=0, hidden_size=8, depth=[1] * 5, learn_sigma=False),
        create_scheduler(None, "velocity"),
        PixelAutoencoder(1, 2),
        condition_kind="none",
    )
    recipe = {key: value for key, value in RECIPE.items() if key not in ("label", "class")}
    recipe["guidance"] = 1.0
    order, text = restored(png(tmp_path / "a.png", recipe), {"tiny": pipeline}, "tiny")
    assert (order.labels, order.seed) == ([None], 7)
    assert text == "Restored: anything, seed 7, 30 steps."
    assert command(recipe).startswith("gensynth sample --model tiny --num 1 --seed 7 --steps 30 ")
    with pytest.raises(InputError, match="cannot be used"):  # which class, it does not say
        restored(tmp_path / "a.png", pipelines, "tiny")
