"""A model of prompts on the page and for programs: boxes, orders, warnings, recipes."""

import asyncio
import html
import re

import gradio as gr
import pytest
from PIL import Image

from gensynth.errors import InputError, UsageError
from gensynth.sampling.outputs import read_recipe, save_picture
from gensynth_serve.pages.handlers import CHOSEN, Handlers
from gensynth_serve.pages.page import build
from gensynth_serve.pages.restore import command, restored
from gensynth_serve.queue.engine import Engine
from gensynth_serve.queue.order import Order

EVIL = "<img src=x onerror=alert(1)> \x1b[31m ../../etc/passwd"
NUMBERS = (2, 7, 1, 2.0, "")  # images, seed, steps, guidance, settings


@pytest.fixture(scope="module")
def handlers(text_pipeline, make_pipeline, tmp_path_factory):
    pipelines = {"words": text_pipeline, "tiny": make_pipeline()}
    engine = Engine(pipelines, tmp_path_factory.mktemp("pictures"))
    yield Handlers(engine)
    assert engine.stop(60)


@pytest.fixture(scope="module")
def page(handlers):
    return build(handlers.engine)


def generated(handlers, model, labels, prompt=None, negative=None, num=1, steps=1):
    """The last box and the recipes of the pictures, newest first."""
    order = (model, labels, num, 7, steps, 2.0, "", [], prompt, negative)
    live, recipes = [], []
    for update in handlers.generate(*order):
        live += [update[0]] if isinstance(update[0], str) else []
        recipes = update[2] if isinstance(update[2], list) else recipes
    return live[-1], recipes


def test_a_prompt_is_drawn(handlers):
    live, made = generated(handlers, "words", [], "cat face, blob", "red apple", num=2)
    assert "done in" in live and "Warning" not in live
    path, caption, recipe = made[0]
    assert (recipe["prompt"], recipe["negative"]) == ("cat face, blob", "red apple")
    assert caption == "cat face, blob · seed 8"
    assert path.endswith("/cat-face-blob-seed-8.png") and read_recipe(path) == recipe


def test_what_is_cut_is_said_and_is_no_html(handlers):
    live, _ = generated(handlers, "words", [], f"a long prompt of words {EVIL}")
    found = re.search(r'<p class="warning" role="alert">(.*?)</p>', live)
    assert found and "the prompt is cut after 8 tokens; not read: '" in html.unescape(found[1])
    assert "onerror" in live and "<img src=x" not in live


def test_no_file_is_called_as_the_prompt_is_written(handlers):
    _, made = generated(handlers, "words", [], EVIL)
    path = made[0][0]
    assert re.fullmatch(
        r"[0-9a-f]{32}-0/[a-z0-9-]{1,32}-seed-7\.png", "/".join(path.split("/")[-2:])
    )
    assert read_recipe(path)["prompt"] == " ".join(EVIL.split())


@pytest.mark.parametrize("prompt", ["", None, " \n "])
def test_an_empty_prompt_draws_anything(handlers, prompt):
    _, made = generated(handlers, "words", [], prompt)
    assert made[0][2]["prompt"] == "" and made[0][1] == "anything · seed 7"


def test_a_prompt_is_taken_instead_of_classes(handlers):
    assert generated(handlers, "words", [3], "cat face")[1][0][2]["prompt"] == "cat face"
    assert generated(handlers, "tiny", [3], " bag")[1][0][2]["label"] == 8
    assert generated(handlers, "tiny", [3], "  ")[1][0][2]["label"] == 3


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (("words", [3]), "A prompt is a text, got 3; this model knows no classes"),
        (("words", [], 7), "The prompt is a text, got 7"),
        (("words", [], {"a": 1}), "The prompt is a text, got {'a': 1}"),
        (("words", [], "x" * 20_000), "may have 10,000 characters"),
        (("words", [], "a\0"), "NUL"),
        (("words", [], "cat", 7), "The negative prompt is a text, got 7"),
        (("words", [], "cat", ["a"]), "The negative prompt is a text"),
        (("words", [], "cat", "b\0"), "NUL"),
        (("tiny", [], "a red bag"), "told classes, not prompts, .*Did you mean 'Bag'"),
        (("tiny", [8], None, "Bag"), "takes no prompts, so no negative one"),
    ],
)
def test_wrong_values_are_answered_in_words(handlers, order, words):
    with pytest.raises(gr.Error) as refused:
        generated(handlers, *order)
    assert re.search(words, refused.value.message)


def test_two_negative_prompts_are_one_too_many(handlers):
    settings = '{"negative": "cat"}'
    with pytest.raises(gr.Error, match="two negative prompts"):
        list(handlers.generate("words", [], 1, 7, 1, 2.0, settings, [], "cat", "dog"))


# What is shown


def test_the_boxes_are_those_of_the_model(handlers):
    classes, buttons, _, _, prompt, suggested, negative = handlers.choose_model("words")
    assert (classes.visible, buttons.visible) == (False, False)
    assert (prompt, negative) == (gr.update(visible=True), gr.update(visible=True))
    assert suggested["samples"][:2] == [["red apple, fluent"], ["green apple, noto"]]
    classes, buttons, _, _, *boxes = handlers.choose_model("tiny")
    assert (classes.visible, buttons.visible) == (True, True)
    assert [box["visible"] for box in boxes] == [False] * 3
    assert [boxes[0]["value"], boxes[2]["value"]] == ["", ""]  # else it would still be sent


def test_the_page_begins_with_the_boxes_of_its_first_model(page):
    blocks = {block.elem_id: block for block in page.blocks.values() if hasattr(block, "elem_id")}
    prompt, suggested = blocks["prompt"], blocks["suggested"]
    assert (prompt.visible, prompt.lines, blocks["negative"].visible) == (True, 3, True)
    assert suggested.visible and not blocks["classes"].visible
    assert "Ctrl+Enter" in prompt.info
    scripts = [str(fn.js) for fn in page.fns.values() if fn.js]
    assert any("ctrlKey" in script and '"generate"' in script for script in scripts)


def test_a_suggestion_fills_the_box(handlers):
    assert handlers.suggest("words", 2) == "cat face, blob"
    for forged in (("words", 4), ("words", "0"), ("words", True), ("tiny", 0), ("../x", 0)):
        assert handlers.suggest(*forged) == gr.skip()


@pytest.mark.parametrize("given", [7, 8])
def test_programs_may_leave_the_prompts_out(page, given):
    fn = next(fn for fn in page.fns.values() if fn.api_name == "generate")
    values = ["tiny", [8], *NUMBERS, None][:given]
    told = asyncio.run(page.preprocess_data(fn, values, None))
    assert told[:7] == values[:7] and told[8:] == ["", ""]


def test_too_few_values_are_still_refused(page):
    fn = next(fn for fn in page.fns.values() if fn.api_name == "generate")
    with pytest.raises(gr.Error, match="does not fit: 3 values"):
        asyncio.run(page.preprocess_data(fn, ["tiny", [8], 1], None))


# Recipes


def recipe(**changes):
    return {
        "schema": 1,
        "model": "words",
        "prompt": "cat face",
        "negative": "dog",
        "seed": 7,
        "steps": 3,
        "guidance": 2.0,
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "size": [32, 32],
        **changes,
    }


def saved(tmp_path, content):
    save_picture(Image.new("L", (32, 32)), tmp_path / "a.png", content)
    return tmp_path / "a.png"


def test_a_picture_of_a_prompt_comes_back(handlers, tmp_path):
    path = saved(tmp_path, recipe(prompt=EVIL + "x" * 300))
    order, text = restored(path, handlers.engine.pipelines, "tiny")
    assert (order.model, order.prompt) == ("words", " ".join(EVIL.split()) + "x" * 300)
    assert order.further == {"negative": "dog"} and len(text) < 300
    updates = handlers.restore(str(saved(tmp_path, recipe())), "tiny")
    assert len(updates) == CHOSEN + 5
    assert (updates[4]["value"], updates[6]["value"]) == ("cat face", "dog")
    assert updates[-3] == ""  # no settings in JSON beside it
    assert updates[-2:] == ("words", "Restored: cat face, seed 7, 3 steps.")


def test_a_picture_of_a_prompt_for_a_model_of_classes(handlers, tmp_path):
    tiny = {"tiny": handlers.engine.pipelines["tiny"]}
    path = saved(tmp_path, recipe(prompt="bag", negative=None))
    assert restored(path, tiny, "tiny")[0].labels == [8]
    with pytest.raises(InputError, match="told classes, not prompts"):
        restored(saved(tmp_path, recipe()), tiny, "tiny")


@pytest.mark.parametrize("prompt", [7, ["x"], "a\0", "x" * 10_001])
def test_no_recipe_brings_what_is_no_prompt(handlers, tmp_path, prompt):
    with pytest.raises(InputError, match="cannot be used: a prompt"):
        path = saved(tmp_path, recipe(prompt=prompt))
        restored(path, handlers.engine.pipelines, "words")


def test_the_command_line_of_a_prompt_is_quoted():
    line = command(recipe(prompt="it's $(rm x)", edit=None))
    assert "--prompt 'it'\"'\"'s $(rm x)' --num 1" in line and "--negative dog" in line


def test_an_edit_without_a_prompt_is_not_drawn_again(handlers, tmp_path):
    path = saved(tmp_path, recipe(prompt=None, edit={}))
    with pytest.raises(InputError, match="without a class or prompt"):
        restored(path, handlers.engine.pipelines, "words")


def test_an_order_has_a_prompt_or_classes():
    assert Order("m", [3], 1, 0, 1, 1.0, prompt="").labels == []
    assert Order("m", [], 1, 0, 1, 1.0, prompt="a").prompt == "a"
    with pytest.raises(UsageError, match="choose at least one class"):
        Order("m", [], 1, 0, 1, 1.0)
