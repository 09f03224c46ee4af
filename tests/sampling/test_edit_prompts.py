"""A part of a picture is drawn anew as a prompt says."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gensynth.conditions import Texts
from gensynth.config import Shown
from gensynth.pipelines.text_conditional import TextConditionalPipeline
from gensynth.samplers.registry import create_scheduler
from gensynth.sampling.outputs import read_recipe


@pytest.fixture(scope="module")
def folder(make_token_model, make_tokenizer, tmp_path_factory) -> Path:
    sizes = {"length": 8, "width": 16, "layers": 1, "heads": 2, "vocabulary": 400}
    texts = Texts.of_experiment(Shown(kind="text", **sizes), [], ["cat face, blob", "dog face"])
    pipeline = TextConditionalPipeline(
        make_token_model(**texts.model_keywords()),
        create_scheduler(None, "tokens"),
        make_tokenizer(),
        prediction="tokens",
        size=32,
        steps=4,
        guidance=2.0,
        condition_kind="text",
    )
    pipeline.condition = texts.for_model(pipeline.model)
    folder = tmp_path_factory.mktemp("models") / "words"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def edit(command, folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 16, 32, 32))
    mask.save(tmp_path / "mask.png")

    def run(name: str, *options: object):
        words = ["edit", tmp_path / "in.png", "--mask", tmp_path / "mask.png", "--model", folder]
        return command(*words, "--out", tmp_path / name, *options)

    return run


def test_the_part_is_drawn_as_the_prompt_says(edit, tmp_path):
    done = edit("cat.png", "--prompt", "cat face, blob", "--negative", "dog face")
    assert (done.returncode, done.stderr.count("warning")) == (0, 0), done.stderr
    recipe = read_recipe(tmp_path / "cat.png")
    assert (recipe["prompt"], recipe["negative"]) == ("cat face, blob", "dog face")
    assert edit("dog.png", "--prompt", "dog face").returncode == 0
    cat, dog = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("cat", "dog"))
    assert np.array_equal(cat[:16], dog[:16]) and not np.array_equal(cat, dog)


@pytest.mark.parametrize("options", [(), ("--prompt", " ")])
def test_without_a_prompt_it_is_drawn_as_anything(edit, tmp_path, options):
    assert edit("any.png", *options).returncode == 0
    assert json.dumps(read_recipe(tmp_path / "any.png")["prompt"]) == "null"


def test_what_is_cut_is_said(edit):
    done = edit("cat.png", "--prompt", "cat face, blob cat face, blob dog face")
    assert done.returncode == 0
    assert "warning: the prompt is cut after 8 tokens; not read: '" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--label", "3"], "instead of the class '3' give a prompt, such as --prompt"),
        (["--label", "3", "--prompt", "cat"], "two ways to say what to draw"),
        (["--prompt", "a\0"], "NUL"),
    ],
)
def test_what_is_no_prompt(edit, tmp_path, options, words):
    done = edit("cat.png", *options)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "cat.png").exists()
