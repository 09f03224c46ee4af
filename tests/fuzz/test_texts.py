"""YAML of experiments, and recipes and records of drawn pictures, damaged in many ways."""

import json
import shutil
from functools import partial
from pathlib import Path
from random import Random

import pytest
import yaml
from harness import check, how_many
from mutations import DEEP, as_json, damaged, json_damaged, twisted
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import gensynth
from gensynth.data.files.image_set import open_images
from gensynth.experiments.read import load_experiment
from gensynth.sampling.job import Job, run
from gensynth.sampling.outputs import RECIPE_KEY
from gensynth.settings import Settings
from gensynth_serve.pages.restore import restored

CONFIGS = sorted((Path(gensynth.__file__).parent.parent / "configs").glob("*/*nano*.yaml"))


def make_yaml(folder: Path, random: Random):
    text = random.choice(CONFIGS).read_bytes()
    match random.randrange(6):
        case 0:
            text = damaged(text, random)
        case 1:
            text += b"\n" + text  # every key twice
        case 2:
            text = b"a: &x [" + b"[" * random.choice((3, DEEP))
        case 3:
            text = text.replace(b": ", b": !!python/object:os.system ", 1)
        case _:
            tree = twisted(yaml.safe_load(text), random)
            text = yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
    path = folder / random.choice(("run.yaml", "run", "läuft.yml"))
    path.write_bytes(text)
    return partial(load_experiment, path)


@how_many
def test_yaml(tmp_path, count):
    found = check(make_yaml, tmp_path, count, {0, 2, 3})
    assert found.get(2, 0) > count / 2


@pytest.fixture(scope="module")
def drawn(tiny_model_folder, tmp_path_factory) -> Path:
    """A folder of three pictures as `gensynth sample` leaves it."""
    folder = tmp_path_factory.mktemp("drawn") / "samples"
    run(Job(str(tiny_model_folder), None, 3, 0, Settings(steps=1)), folder)
    return folder


@how_many
def test_recipes(tmp_path, count, tiny_pipeline, drawn):
    picture = drawn / "000000.png"
    with Image.open(picture) as image:
        recipe = json.loads(image.info[RECIPE_KEY])

    def make(folder: Path, random: Random):
        path = folder / "picture.png"
        if random.random() < 0.2:
            path.write_bytes(damaged(picture.read_bytes(), random))
        else:
            chunks = PngInfo()
            text = as_json({**recipe, "model": "tiny"}, random).decode("utf-8", "replace")
            chunks.add_itxt(RECIPE_KEY, text.replace("\0", ""), zip=random.random() < 0.2)
            with Image.open(picture) as image:
                image.save(path, pnginfo=chunks)
        return partial(restored, path, {"tiny": tiny_pipeline}, "tiny")

    found = check(make, tmp_path, count, {0, 3})
    assert found.get(0, 0) and found.get(3, 0)


@how_many
def test_sample_folders(tmp_path, count, drawn, tiny_model_folder):
    """Drawing into a folder with a damaged record, and reading it for an evaluation."""

    def make(folder: Path, random: Random):
        place = folder / "samples"
        shutil.copytree(drawn, place)
        path = random.choice(sorted(place.iterdir()))
        content = path.read_bytes()
        if path.suffix == ".json" and random.random() < 0.7:
            path.write_bytes(json_damaged(content, random))
        elif path.suffix == ".jsonl" and random.random() < 0.7:
            lines = content.splitlines()
            lines[0] = json_damaged(lines[0], random)
            path.write_bytes(b"\n".join(lines))
        else:
            path.write_bytes(damaged(content, random))

        def read():
            images = open_images(str(place))
            for index in range(images.length):
                images.read(index)
            run(Job(str(tiny_model_folder), None, 3, 0, Settings(steps=1)), place)

        return read

    check(make, tmp_path, count, {0, 2, 3, 4, 8})
