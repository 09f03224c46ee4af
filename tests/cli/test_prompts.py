"""Prompts on the command line: drawn, recorded, refused in words."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from gensynth.pipelines.loading import load
from gensynth.sampling.outputs import read_recipe
from gensynth_serve.pages.restore import command as command_line


def pixels(path):
    return np.asarray(Image.open(path))


def test_one_picture_of_each_prompt(command, text_model_folder, tmp_path):
    (tmp_path / "more.csv").write_text('caption,id\n"green apple, noto",1\n,2\n')
    words = ["sample", "--model", text_model_folder, "--prompt", "cat face", "--seed", 4]
    done = command(*words, "--prompts", tmp_path / "more.csv", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'out'}\n")
    recipes = [read_recipe(tmp_path / "out" / f"{n:06d}.png") for n in range(3)]
    shown = [(recipe["prompt"], recipe["seed"]) for recipe in recipes]
    assert shown == [("cat face", 4), ("green apple, noto", 5), ("", 6)]
    assert not (tmp_path / "out/000003.png").exists()
    lines = (tmp_path / "out/manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["cat face", "green apple, noto", ""]
    [drawn] = load(text_model_folder)("green apple, noto", seeds=[5])
    assert np.array_equal(pixels(tmp_path / "out/000001.png"), np.asarray(drawn))
    one = [pixels(tmp_path / f"out/{n:06d}.png") for n in range(3)]
    assert not np.array_equal(one[0], one[2])


def test_the_same_command_draws_what_is_missing(command, text_model_folder, tmp_path):
    prompts = tmp_path / "many.txt"
    prompts.write_text("\n".join(f"cat face number {n} of {'many' * 20}" for n in range(99)))
    words = ["sample", "--model", text_model_folder, "--steps", 1, "--num", 3]
    words += ["--prompts", prompts, "--out", tmp_path / "out"]
    done = command(*words)
    assert done.returncode == 0
    assert done.stderr.count("warning: the prompt is cut after 8 tokens; not read: ") == 3
    before = pixels(tmp_path / "out/000001.png")
    (tmp_path / "out/000001.png").unlink()
    assert command(*words).returncode == 0
    assert np.array_equal(pixels(tmp_path / "out/000001.png"), before)
    described = json.loads((tmp_path / "out/job.json").read_text())["prompts"]
    assert described["number"] == 99 and len(str(described)) < 400
    prompts.write_text(prompts.read_text() + " x")  # the last prompt, which is not drawn yet
    done = command(*words)
    assert done.returncode == 4 and "holds pictures of another job: prompts was" in done.stderr


def test_a_warning_names_the_words_lost(command, text_model_folder, tmp_path):
    words = ["sample", "--model", text_model_folder, "--steps", 1, "--out", tmp_path / "out"]
    words += ["--negative", "green apple, noto cat face, blob red apple", "--prompt", "cat face"]
    done = command(*words)
    assert done.returncode == 0
    assert "warning: the prompt is cut after 8 tokens; not read: '" in done.stderr
    assert "red apple'." in done.stderr


def test_what_other_programs_read(command, text_model_folder, tmp_path):
    words = ["sample", "--model", text_model_folder, "--prompt", "🍎, fluent <b>", "--seed", 3]
    words += ["--negative", "cat\nface", "--out", tmp_path / "out"]
    assert command(*words).returncode == 0
    path = tmp_path / "out/000000.png"
    with Image.open(path) as image:
        text = image.text["parameters"]
    assert text.splitlines()[:2] == ["🍎, fluent <b>", "Negative prompt: cat face"]
    assert text.splitlines()[2].startswith("Steps: 2, Sampler: FlowMatchEulerDiscreteScheduler, ")
    recipe = read_recipe(path)
    assert (recipe["prompt"], recipe["negative"]) == ("🍎, fluent <b>", "cat\nface")
    again = shlex.split(command_line({**recipe, "model": str(text_model_folder)}))[1:]
    assert command(*again[:-1], tmp_path / "again").returncode == 0
    assert np.array_equal(pixels(path), pixels(tmp_path / "again/000000.png"))


def test_a_class_may_be_written_as_a_prompt(command, tiny_model_folder, tmp_path):
    words = ["sample", "--model", tiny_model_folder, "--steps", 1, "--out", tmp_path / "out"]
    assert command(*words, "--prompt", "fox", "--prompt", " ANT").returncode == 0
    recipes = [read_recipe(tmp_path / "out" / f"{n:06d}.png") for n in range(2)]
    assert [recipe["class"] for recipe in recipes] == ["Fox", "Ant"]
    assert "prompt" not in recipes[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt", "a red fox"], "told classes, not prompts, .* Did you mean 'Fox'.*Ant, Bear"),
        (["--prompt", "3"], "none is called '3'"),
        (["--prompt", ""], "none is called ''"),
        (["--prompt", "Ant", "--labels", "Bear"], "two ways to say what to draw; give one"),
        (["--negative", "Ant"], "takes no prompts, so no negative one"),
    ],
)
def test_prompts_for_a_model_of_classes(command, tiny_model_folder, tmp_path, options, words):
    out = ["--out", tmp_path / "out"]
    done = command("sample", "--model", tiny_model_folder, *options, *out)
    assert done.returncode == 2
    assert re.search(words, done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--labels", "3"], 2, "knows no classes: instead of the class '3' give a prompt"),
        (["--prompt", "x" * 20_000], 2, "may have 10,000 characters, this one has 20,000"),
        (["--prompt", "a\0b"], 2, "cannot hold the character NUL"),
        (["--prompt", "caf\udce9"], 2, "no UTF-8"),
        (["--prompt", "cat", "--negative", "\0"], 2, "cannot hold the character NUL"),
        (["--prompt", "cat", "--negative", "dog", "--guidance", "1"], 2, "no effect with guidance"),
        (["--prompts", "none.txt"], 3, "none.txt cannot be read: No such file"),
        (["--prompts", "none.pdf"], 2, "read from .txt, .csv, .jsonl, .parquet, not from none.pdf"),
    ],
)
def test_what_is_no_prompt(command, text_model_folder, tmp_path, options, code, words):
    out = ["--out", tmp_path / "out"]
    done = command("sample", "--model", text_model_folder, *options, *out)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_the_advice_for_a_model_of_prompts_works(command, text_model_folder, tmp_path):
    done = command("sample", "--model", text_model_folder, "--labels", "0-3")
    advised = shlex.split(done.stderr.split("such as ")[1].strip().rstrip("."))
    words = ["sample", "--model", text_model_folder, *advised, "--out", tmp_path / "out"]
    assert command(*words).returncode == 0


def test_without_prompts_the_examples_are_drawn(command, text_model_folder, tmp_path):
    words = ["sample", "--model", text_model_folder, "--steps", 1, "--num", 5]
    assert command(*words, "--out", tmp_path / "out").returncode == 0
    prompts = [read_recipe(tmp_path / f"out/{n:06d}.png")["prompt"] for n in range(5)]
    assert prompts == [*load(text_model_folder).condition.every(), "red apple, fluent"]


def test_the_list_of_what_can_be_drawn_is_of_prompts(command, text_model_folder):
    done = command("classes", text_model_folder)
    assert f"{text_model_folder} is told prompts (--prompt), such as these" in done.stderr
    assert done.stdout.splitlines()[0] == "red apple, fluent"
    assert command("classes", text_model_folder, "CAT", "blob").stdout == "cat face, blob\n"
    done = command("classes", text_model_folder, "zebra")
    assert done.returncode == 2 and "anything may be written, --prompt" in done.stderr


def test_the_list_of_models_says_what_each_is_told(text_model_folder):
    from gensynth.cli.models import describe, in_words
    from gensynth.pretrained import PRETRAINED

    words = describe("words", text_model_folder)
    assert (words["told"], words["classes"]) == ("prompts", [])
    assert words["prompts"][0] == "red apple, fluent"
    assert in_words(words) == "prompts: 'red apple, fluent', ..."
    classes = describe("fashion", PRETRAINED["maskgit-fashion"])
    assert (classes["told"], classes["prompts"]) == ("classes", [])
    assert in_words(classes) == "10 classes: T-shirt, Trouser, Pullover, ..."
