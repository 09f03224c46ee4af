"""Pipelines of diffusers are served: pictures of every family over the page."""

import json

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

import gensynth
from gensynth.errors import UsageError
from gensynth.sampling.generate import Picture
from gensynth.sampling.outputs import read_recipe, recipe, save_picture
from gensynth.settings import Settings
from gensynth_serve.pages.handlers import Handlers
from gensynth_serve.pages.page import build
from gensynth_serve.pages.restore import command, restored
from gensynth_serve.queue.engine import Engine
from gensynth_serve.web.app import create_app

SMALL = json.dumps({"size": [64, 64]})  # FLUX's own is 1024x1024
FAMILIES = ["sd", "sdxl", "sd3", "flux", "pixart", "sana"]


@pytest.fixture(scope="module")
def handlers(pretrained_folder, tmp_path_factory):
    pipelines = {kind: gensynth.load(pretrained_folder(kind)) for kind in FAMILIES}
    engine = Engine(pipelines, tmp_path_factory.mktemp("pictures"))
    yield Handlers(engine)
    assert engine.stop(60)


def generated(handlers, model, prompt, negative=None, guidance=None, settings=SMALL):
    """The last box and the recipes of the pictures, newest first."""
    guidance = handlers.engine.pipelines[model].resolve().guidance if guidance is None else guidance
    order = (model, [], 2, 7, 2, guidance, settings, [], prompt, negative)
    live, recipes = [], []
    for update in handlers.generate(*order):
        live += [update[0]] if isinstance(update[0], str) else []
        recipes = update[2] if isinstance(update[2], list) else recipes
    return live[-1], recipes


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_draws_on_the_page(handlers, kind):
    live, made = generated(handlers, kind, "a red apple")
    assert "done in" in live and "Warning" not in live
    path, caption, recipe = made[0]
    assert caption == "a red apple · seed 8" and read_recipe(path) == recipe
    assert recipe["model"] == kind and recipe["size"] == [64, 64]
    [again] = handlers.engine.pipelines[kind]("a red apple", [8], steps=2, size=64)
    assert np.abs(np.asarray(again).astype(int) - np.asarray(Image.open(path))).max() <= 1


def test_what_is_cut_is_a_warning(handlers):
    live, _ = generated(handlers, "sd", "word " * 100)
    assert "the prompt is cut after 77 tokens; not read: " in live


def test_settings_that_do_not_apply_are_answered_in_words(handlers):
    with pytest.raises(gr.Error, match="This FLUX has its guidance inside"):
        generated(handlers, "flux", "a cat", negative="a dog")
    with pytest.raises(gr.Error, match="takes a guidance from 1 upwards"):
        generated(handlers, "sd", "a cat", guidance=0.5)
    with pytest.raises(gr.Error, match=r"multiple of 16\. Nearest: 64x32"):
        generated(handlers, "sd3", "a cat", settings='{"size": [64, 40]}')


def test_the_page_says_what_suits_a_pipeline(handlers):
    page = build(handlers.engine)
    own = {
        block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)
    }
    assert (own["steps"].value, own["guidance"].value) == (50, 7.5)
    assert own["prompt"].visible and not own["classes"].visible
    assert ["a red apple on a wooden table"] in own["suggested"].samples


def test_a_picture_over_the_network(pretrained_server, pretrained_folder, tmp_path):
    client = Client(pretrained_server.url, verbose=False, download_files=str(tmp_path))
    name = pretrained_folder("sd").name
    asked = {"labels": [], "num": 1, "seed": 7, "steps": 2, "guidance": 7.5, "settings": ""}
    asked |= {"prompt": "a red apple", "negative": "the sea"}
    job = client.submit(name, **asked, api_name="/generate")
    gallery = job.result(timeout=120)[1]
    file = gallery[0]["image"] if isinstance(gallery[0], dict) else gallery[0][0]
    recipe = read_recipe(tmp_path / file)
    assert (recipe["prompt"], recipe["negative"], recipe["model"]) == (
        "a red apple",
        "the sea",
        name,
    )
    pipe = gensynth.load(pretrained_folder("sd"))
    [drawn] = pipe("a red apple", [7], steps=2, negative="the sea")
    assert np.array_equal(np.asarray(Image.open(tmp_path / file)), np.asarray(drawn))


def test_options_reach_what_is_served(pretrained_folder):
    from gensynth.pipelines.pretrained.options import LoadOptions

    how = LoadOptions(dtype="bf16", vae_slicing=True)
    app = create_app([str(pretrained_folder("sd"))], options=how)
    [pipeline] = app.state.engine.pipelines.values()
    assert pipeline.options == how and str(pipeline.dtype) == "torch.bfloat16"
    assert app.state.engine.stop(60)
    with pytest.raises(UsageError, match="no pipeline of diffusers"):
        create_app(["dico-nano-fashion"], options=how)


def test_a_picture_of_a_model_that_was_loaded_otherwise(pretrained_folder, tmp_path):
    served = {"sd": gensynth.load(pretrained_folder("sd"))}
    other = gensynth.load(pretrained_folder("sd"), dtype="bf16", vae_tiling=True)
    for pipe, words in ((served["sd"], None), (other, "--load dtype=bf16 --load vae_tiling=true")):
        complete = pipe.resolve(Settings(steps=2)).settings
        text = {**recipe(pipe, Picture(0, "a cat", 1), complete), "model": "sd"}
        save_picture(Image.new("RGB", (64, 64)), tmp_path / "drawn.png", text)
        _, note = restored(tmp_path / "drawn.png", served, "sd")
        assert ("Note" in note) == (words is not None)
        if words is not None:
            assert f"loaded with {words}; here it is --load dtype=float32" in note
            assert words in command(text)
