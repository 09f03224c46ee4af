"""Of a repository of the hub that holds everything many times, what is fetched."""

import shutil

import pytest
from huggingface_hub import constants

import gensynth
from gensynth.errors import RefusedError
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


def test_a_copy_on_this_machine_draws_without_a_network(pretrained_folder, tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "models--foo--bar"
    shutil.copytree(pretrained_folder("sd"), cache / "snapshots" / ("a" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    pipe = gensynth.load("foo/bar")
    assert pipe.name == "foo/bar" and len(pipe("a cat", [1, 2], steps=1)) == 2
