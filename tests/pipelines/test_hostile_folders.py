"""Model folders that are damaged or ask for the impossible: refused in words, at little cost."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import gensynth
from gensynth.errors import CorruptError, InputError, RefusedError
from gensynth.pipelines.class_conditional import ClassConditionalPipeline

WEIGHTS = Path("model") / "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_model_folder, tmp_path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "copy"))


def edit(path: Path, /, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture(params=["load", "from_pretrained"])
def load(request):
    """Both ways to load a folder."""
    if request.param == "load":
        return lambda folder, **how: gensynth.load(folder, device="cpu", **how)
    return ClassConditionalPipeline.from_pretrained


# Configurations that ask for a model of any size

HUGE = {
    "depth of one level": {"depth": [10**7, 1, 1, 1, 1]},
    "depth of all": {"depth": [10**6] * 5},
    "width": {"hidden_size": 10**9},
    "width beyond 64 bits": {"hidden_size": 8 * 10**30},
    "classes": {"num_classes": 10**9},
    "channels": {"in_channels": 10**8},
    "feed-forward": {"mlp_ratio": 1e9},
    "feed-forward of infinity": {"mlp_ratio": float("inf")},
    "levels": {"depth": [1] * 100_000},
}


@pytest.mark.parametrize("change", HUGE)
def test_a_configuration_that_asks_for_too_much_is_refused(folder, change, load):
    edit(folder / "model" / "config.json", **HUGE[change])
    begun = time.monotonic()
    with pytest.raises(CorruptError, match=r"config\.json") as caught:
        load(folder)
    assert time.monotonic() - begun < 10
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["DiT-nano/2", "MDTv2-nano/2", "MaskGIT-nano"])
@pytest.mark.parametrize(
    "change",
    [{"depth": 10**8}, {"input_size": 10**7}, {"input_size": [10**6, 10**6]}, {"num_heads": 10**9}],
    ids=str,
)
def test_so_is_one_of_a_transformer(make_pipeline, name, change, tmp_path):
    small = {"input_size": 8, "hidden_size": 16, "depth": 2, "num_heads": 2, "num_classes": 10}
    tokens = name.startswith("MaskGIT")
    small |= {"codebook_size": 16} if tokens else {"decode_layer": 2} if name[0] == "M" else {}
    model = gensynth.create_model(name, **small)
    make_pipeline("tokens" if tokens else "epsilon", model).save_pretrained(tmp_path)
    edit(tmp_path / "model" / "config.json", **change)
    with pytest.raises(CorruptError, match=r"config\.json"):
        gensynth.load(tmp_path, device="cpu")


@pytest.mark.parametrize("value", [10**11, 10**7, -5, 0, "many", [1]])
def test_a_scheduler_of_any_size_is_refused(folder, value, load):
    edit(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=value)
    with pytest.raises(CorruptError):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("guidance", "2"),
        ("guidance", float("nan")),
        ("guidance", True),
        ("model", {"a": 1}),
        ("model", None),
        ("steps", 2.5),
        ("size", 10**9),
        ("size", 0),
        ("size", 31),
        ("size", "32"),
        ("prediction", "velocities"),
        ("ddpm_prediction", "z"),
        ("path", "straight"),
        ("guidance_schedule", "now and then"),
        ("guidance_interval", {"low": 2, "high": 3}),
        ("guidance_interval", "all"),
        ("guided_channels", "three"),
        ("condition_kind", "smells"),
        ("fit", 3),
        ("time_scale", None),
        ("codebook", 5),
        ("colour", "red"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(folder, key, value, load):
    edit(folder / "model_index.json", **{key: value})
    with pytest.raises(CorruptError, match=key.replace("_kind", "")) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("autoencoder/config.json", {"patch": 0}),
        ("autoencoder/config.json", {"patch": 4}),
        ("autoencoder/config.json", {"channels": 2, "patch": 1}),
        ("model/config.json", {"_class_name": "DiT"}),
        ("scheduler/scheduler_config.json", {"shift": "x"}),
    ],
)
def test_parts_that_cannot_draw_together_are_refused(folder, file, change, load):
    edit(folder / file, **change)
    if file.startswith("model"):
        load(folder)  # the index says what it is
    else:
        with pytest.raises(CorruptError):
            load(folder)


def test_deeply_nested_json_is_damage(folder):
    (folder / "model_index.json").write_text("[" * 100_000)
    with pytest.raises(CorruptError, match="not readable"):
        gensynth.load(folder)


# Weights


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["model", "autoencoder"])
def test_weights_that_are_no_numbers_are_refused(folder, part, value, load):
    file = folder / part / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[-1]
    weights[name].view(-1)[-1] = value
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(CorruptError, match=rf"{part} are not finite numbers: {name}"):
        load(folder)


def test_large_weights_whose_sum_is_infinite_are_let_pass(folder, load):
    weights = load_file(folder / WEIGHTS)
    weights["stem.weight"] = torch.full_like(weights["stem.weight"], 3e38)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    assert load(folder).model.stem.weight.flatten()[0] == torch.tensor(3e38)


# Variants, and saving over an earlier save


@pytest.mark.parametrize("shards", [None, "20KB"])
def test_a_variant_is_found_by_itself_and_by_name(make_pipeline, tmp_path, load, shards):
    pipeline = make_pipeline()
    half = {name: t.half().float() for name, t in pipeline.model.state_dict().items()}
    how = {} if shards is None else {"max_shard_size": shards}
    pipeline.to(torch.float16).save_pretrained(tmp_path, variant="fp16", **how)
    for variant in ({}, {"variant": "fp16"}):
        loaded = load(tmp_path, **variant)
        assert loaded.model.dtype == torch.float32
        state = loaded.model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in half.items())
    with pytest.raises(InputError, match=r"no weights of variant 'bf16'; there are fp16"):
        load(tmp_path, variant="bf16")


def test_the_weights_without_a_variant_come_first(folder, make_model, load):
    stem = make_model().stem.weight
    file = folder / "model" / "diffusion_pytorch_model.ema.safetensors"
    save_file({k: v + 1 for k, v in load_file(folder / WEIGHTS).items()}, file, {"format": "pt"})
    assert torch.equal(load(folder).model.stem.weight, stem)
    assert torch.equal(load(folder, variant="ema").model.stem.weight, stem + 1)
    (folder / WEIGHTS).rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(InputError, match=r"several variants; say which: --variant .*ema, fp16"):
        load(folder)
    assert torch.equal(load(folder, variant="ema").model.stem.weight, stem + 1)


def test_plain_weights_are_not_taken_for_a_variant(folder, load):
    with pytest.raises(InputError, match="'fp16'; there are only weights without a variant"):
        load(folder, variant="fp16")


SHARDED = {"max_shard_size": "20KB"}


@pytest.mark.parametrize("before", [SHARDED, {}, {"max_shard_size": "40KB"}], ids=str)
@pytest.mark.parametrize("after", [SHARDED, {}], ids=str)
def test_saving_over_an_earlier_save_leaves_one(make_pipeline, tmp_path, load, before, after):
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path, **before)
    with torch.no_grad():
        pipeline.model.stem.weight += 1
    pipeline.save_pretrained(tmp_path, **after)
    pipeline.save_pretrained(tmp_path / "alone", **after)
    state = load(tmp_path).model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in pipeline.model.state_dict().items())
    names = [
        sorted(p.name for p in (f / "model").iterdir()) for f in (tmp_path, tmp_path / "alone")
    ]
    assert names[0] == names[1]


def test_another_variant_stays_when_one_is_saved(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path, **SHARDED)
    pipeline.save_pretrained(tmp_path, variant="ema")
    pipeline.save_pretrained(tmp_path, variant="ema", **SHARDED)
    for variant in (None, "ema"):
        state = gensynth.load(tmp_path, "cpu", variant).model.state_dict()
        assert all(torch.equal(state[k], v) for k, v in pipeline.model.state_dict().items())


def test_a_save_that_fails_leaves_the_earlier_one(make_pipeline, tmp_path, monkeypatch):
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path, **SHARDED)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def full(*args, **how):
        raise OSError("No space left on device")

    monkeypatch.setattr(type(pipeline.model), "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        pipeline.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_the_advice_about_a_stale_index_works(folder, make_pipeline, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "sharded", **SHARDED)
    name = "diffusion_pytorch_model.safetensors.index.json"
    shutil.copy(tmp_path / "sharded" / "model" / name, folder / "model" / name)
    with pytest.raises(RefusedError, match=r"if \S+\.safetensors is whole, delete"):
        gensynth.load(folder)
    (folder / "model" / name).unlink()
    assert gensynth.load(folder).classes[0] == "Ant"


# As diffusers loads


def test_class_names_come_along_as_diffusers_loads(folder):
    pipeline = ClassConditionalPipeline.from_pretrained(str(folder), torch_dtype=torch.bfloat16)
    assert (pipeline.classes[1], pipeline.name) == ("Bear", str(folder))
    assert pipeline.model.dtype == torch.bfloat16
    assert pipeline.label_id("Cat") == 2


def test_a_part_given_by_hand_is_taken(folder, make_model):
    (folder / WEIGHTS).unlink()
    model = make_model()
    pipeline = ClassConditionalPipeline.from_pretrained(folder, model=model)
    assert pipeline.model is model


def test_pickles_are_refused_as_diffusers_loads(folder):
    with pytest.raises(RefusedError, match="can run code"):
        ClassConditionalPipeline.from_pretrained(folder, use_safetensors=False)
