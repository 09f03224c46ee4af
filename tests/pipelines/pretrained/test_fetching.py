"""Of a repository of the hub that holds everything many times, what is fetched."""

import shutil

import pytest
from huggingface_hub import constants

import gensynth
from gensynth.errors import InputError, RefusedError
from gensynth.pipelines.pretrained.fetching import weights_of, with_weights

INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
}
WHOLE = "diffusion_pytorch_model"
NAMES = [
    *("model_index.json", "sd_xl_base_1.0.safetensors", "tokenizer/vocab.json"),
    *("text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors"),
    *("text_encoder/flax_model.msgpack", "text_encoder/openvino_model.bin"),
    f"unet/{WHOLE}-00001-of-00002.safetensors",
    f"unet/{WHOLE}-00002-of-00002.safetensors",
    f"unet/{WHOLE}.safetensors.index.json",
    f"unet/{WHOLE}.fp16.safetensors",
    f"unet/{WHOLE}.bin",
    f"vae/{WHOLE}.safetensors",
    "safety_checker/model.safetensors",
]


def test_one_variant_of_each_part():
    assert weights_of("a/b", NAMES, INDEX, None) == [
        "text_encoder/model.safetensors",
        *NAMES[7:10],
        f"vae/{WHOLE}.safetensors",
    ]


def test_the_plain_ones_where_a_part_has_no_such_variant():
    assert weights_of("a/b", NAMES, INDEX, "fp16") == [
        "text_encoder/model.fp16.safetensors",
        f"unet/{WHOLE}.fp16.safetensors",
        f"vae/{WHOLE}.safetensors",
    ]


def test_all_where_there_are_only_variants():
    names = [name for name in NAMES if not name.startswith("unet/") or "fp16" in name]
    assert f"unet/{WHOLE}.fp16.safetensors" in weights_of("a/b", names, INDEX, None)


def test_pickles_are_not_fetched():
    names = [name for name in NAMES if not name.startswith("unet/") or name.endswith(".bin")]
    with pytest.raises(RefusedError, match="a/b has the weights of its unet as pickles only"):
        weights_of("a/b", names, INDEX, None)


def test_a_folder_has_all(tmp_path):
    assert with_weights(str(tmp_path), tmp_path, INDEX, None) == tmp_path


@pytest.fixture
def cached(pretrained_folder, tmp_path, monkeypatch):
    """The copy of foo/bar, a Stable Diffusion of the hub, on this machine."""
    cache = tmp_path / "hub" / "models--foo--bar"
    folder = cache / "snapshots" / ("a" * 40)
    shutil.copytree(pretrained_folder("sd"), folder)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder


def test_a_copy_on_this_machine_draws_without_a_network(cached, capsys):
    pipe = gensynth.load("foo/bar")
    assert pipe.name == "foo/bar" and len(pipe("a cat", [1, 2], steps=1)) == 2
    assert "note" not in capsys.readouterr().err


def renamed(folder, variant):
    for file in [*folder.glob("*/*.safetensors")]:
        file.rename(file.with_name(f"{file.stem}.{variant}.safetensors"))


def test_another_variant_on_this_machine_is_said(cached, capsys):
    renamed(cached, "fp16")
    gensynth.load("foo/bar")
    said = "note: without a network the weights of foo/bar that are on this machine are used, var"
    assert f"{said}iant fp16." in capsys.readouterr().err
    gensynth.load("foo/bar", variant="fp16")  # as asked for
    assert "note" not in capsys.readouterr().err


@pytest.mark.parametrize("how", [{}, {"variant": "bf16"}])
def test_weights_that_were_half_fetched_need_the_network(cached, how):
    if not how:
        (cached / "unet" / f"{WHOLE}.safetensors").unlink()
    said = "the weights of foo/bar cannot be fetched: HF_HUB_OFFLINE forbids it. Load it once whe"
    with pytest.raises(InputError, match=said):
        gensynth.load("foo/bar", **how)


def test_shards_that_were_half_fetched_need_the_network(cached):
    pipe = gensynth.load("foo/bar")
    shutil.rmtree(cached / "unet")
    pipe.inner.unet.save_pretrained(cached / "unet", max_shard_size="60KB")
    gensynth.load("foo/bar")
    next((cached / "unet").glob("*-00002-of-*")).unlink()
    with pytest.raises(InputError, match="cannot be fetched: HF_HUB_OFFLINE forbids it"):
        gensynth.load("foo/bar")
