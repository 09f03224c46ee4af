"""What is loaded decides a job's mark and stands in recipes; memory, formats and older names."""

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import gensynth
from gensynth.errors import DeviceMemoryError, UsageError
from gensynth.pipelines.pretrained.opening import _place
from gensynth.pipelines.pretrained.options import LoadOptions, as_loaded
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.sampling.generate import Picture, generate, plan, smaller
from gensynth.sampling.job import fingerprint_of
from gensynth.sampling.outputs import recipe
from gensynth.settings import Settings

HOW = {"steps": 2, "size": 64}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def picture(pipe, **how):
    return np.asarray(pipe("a red apple", [1], **{**HOW, **how})[0]).astype(int)


@pytest.fixture
def copied(pretrained_folder, tmp_path):
    return lambda kind="sd": shutil.copytree(pretrained_folder(kind), tmp_path / kind)


def test_the_mark_of_a_job_is_of_what_is_loaded(copied):
    folder = copied()
    before = fingerprint_of(str(folder))
    half = {name: tensor.half() for name, tensor in load_file(folder / "unet" / WEIGHTS).items()}
    save_file(half, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    (folder / "safety_checker").mkdir()
    save_file(half, folder / "safety_checker" / "model.safetensors")
    (folder / "README.md").write_text("another word")
    assert fingerprint_of(str(folder)) == before  # of what is not read
    marks = [before, fingerprint_of(str(folder), "fp16")]
    (folder / "tokenizer/merges.txt").write_text("a b")
    marks.append(fingerprint_of(str(folder)))
    save_file({name: one.float() for name, one in half.items()}, folder / "unet" / WEIGHTS)
    marks.append(fingerprint_of(str(folder)))
    config = folder / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "beta_end": 0.013}))
    marks.append(fingerprint_of(str(folder)))
    assert len(set(marks)) == 5


def test_a_recipe_says_how_the_model_was_loaded(copied):
    folder = copied()
    pipe = gensynth.load(folder)
    pipe.inner.to(torch.float16).save_pretrained(folder, variant="fp16")
    pipe = gensynth.load(folder, variant="fp16", dtype="bf16", vae_tiling=True)
    text = recipe(pipe, Picture(0, "a cat", 1), pipe.resolve(Settings()).settings)
    facts = {"dtype": "bfloat16", "vae_tiling": True, "variant": "fp16"}
    assert facts.items() <= text.items() and pipe.facts() == facts
    words = as_loaded(text)
    assert words == ["--load", "dtype=bf16", "--load", "vae_tiling=true", "--variant", "fp16"]
    again = LoadOptions.read([words[1], words[3]])
    assert np.array_equal(
        picture(gensynth.load(folder, variant=words[5], **again.given())), picture(pipe)
    )
    assert as_loaded({"dtype": ["x"], "variant": 5, "vae_tiling": "yes"}) == []


def test_the_decoder_of_sdxl_computes_in_32_bits(pretrained_folder, monkeypatch):
    pipe = gensynth.load(pretrained_folder("sdxl"), dtype="fp16")
    vae, seen = pipe.inner.vae, []
    decode = vae.decode

    def noted(latents, **how):
        seen.append((latents.dtype, vae.dtype))
        return decode(latents, **how)

    monkeypatch.setattr(vae, "decode", noted)
    exact = picture(gensynth.load(pretrained_folder("sdxl")))
    assert np.abs(picture(pipe) - exact).mean() < 2
    assert seen == [(torch.float32,) * 2] and vae.dtype == torch.float16

    def failing(latents, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae, "decode", failing)
    with pytest.raises(KeyboardInterrupt):
        picture(pipe)
    assert vae.dtype == torch.float16


@pytest.mark.parametrize("kind", ["sd", "flux"])
def test_networks_that_are_moved_to_and_fro_draw_the_same(kind, pretrained_folder):
    before = picture(gensynth.load(pretrained_folder(kind)))
    inner, options = gensynth.load(pretrained_folder(kind)).inner, LoadOptions(offload="model")
    _place(inner, torch.device("cpu"), options)  # as to a GPU, with the same hooks
    pipe, previews = PretrainedPipeline(inner, options), []
    drawn = picture(pipe, on_step=lambda progress: previews.append(progress.preview()))
    assert np.array_equal(drawn, before)
    assert {(one.dtype, one.shape) for one in previews} == {(torch.uint8, (1, 3, 64, 64))}
    assert np.array_equal(picture(pipe), before)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
@pytest.mark.parametrize("place", ["to", "from_config"])
def test_memory_that_is_full_while_loading(pretrained_folder, monkeypatch, error, place):
    def full(*args, **keywords):
        raise error

    if place == "to":
        monkeypatch.setattr(diffusers.DiffusionPipeline, "to", full)
    else:
        monkeypatch.setattr("gensynth.pipelines.pretrained.opening.load_parts", full)
    with pytest.raises(DeviceMemoryError, match=r"out of memory\. Try --load dtype=bf16, a smal"):
        gensynth.load(pretrained_folder("sd"), device="cpu")


def test_what_is_advised_where_memory_is_full_is_an_option():
    cases = {
        "--load offload=model": LoadOptions().lighter("cuda"),
        "--load offload=sequential": LoadOptions(offload="model").lighter("cuda"),
        "--load dtype=bf16": LoadOptions().lighter("cpu"),
        "--load vae_tiling=true": LoadOptions().lighter_decoding(),
    }
    for words, found in cases.items():
        assert found == [words] and LoadOptions.read([words.removeprefix("--load ")]).given()
    assert LoadOptions(dtype="bf16").lighter("cpu") == []
    assert LoadOptions(offload="sequential", dtype="float32").lighter("cuda") == [
        "--load dtype=bf16"
    ]


def test_a_picture_that_does_not_fit(drawing):
    def full(items, seeds):
        raise MemoryError

    with pytest.raises(
        DeviceMemoryError, match=r"smaller --size, --load dtype=bf16, --load vae_tiling=true, a sm"
    ):
        list(generate(full, plan(["a cat"], 1, 0), 1, smaller(drawing("sd"))))


@pytest.mark.parametrize("text", ['dtype=["bf16"]', "dtype=16", "dtype={}"])
def test_a_format_that_is_no_text(text):
    with pytest.raises(UsageError, match="dtype must be one of float32, bf16, fp16, got"):
        LoadOptions.read([text])


def test_pixart_as_it_was_published(copied):
    folder = copied("pixart")
    before = picture(gensynth.load(folder))
    index, config = folder / "model_index.json", folder / "transformer/config.json"
    older = {"transformer": ["diffusers", "Transformer2DModel"]}
    index.write_text(json.dumps({**json.loads(index.read_text()), **older}))
    older = {"_class_name": "Transformer2DModel"}
    config.write_text(json.dumps({**json.loads(config.read_text()), **older}))
    assert np.array_equal(picture(gensynth.load(folder)), before)
