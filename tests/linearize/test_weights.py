"""Weights that are not there, are damaged, or are those of another model."""

import json
from fnmatch import fnmatch

import pytest
import torch
from linear_models import bare
from refusals import refused
from safetensors.torch import load_file, save_file

import gensynth
from gensynth.errors import CorruptError, InputError, OutputError, RefusedError, UsageError


def test_weights_of_another_unet_name_both(saved, tmp_path):
    match = r"are for a UNet \(7 self-attentions.*heads 4\), and this model is a UNet \(11 "
    refused(bare("sdxl"), InputError, match, "linfusion", saved("sd"))
    # heads alone tell Stable Diffusion 1.5 from 2.1
    for file in saved("sd").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    for entry in config["modules_list"]:
        entry["heads"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(bare("sd"), InputError, "heads 2.* and this model is .*heads 4", "linfusion", tmp_path)


def test_weights_of_another_transformer_name_both(saved):
    match = r"are for Stable Diffusion 3 \(2 self-attentions of width 32\), and this model is FLUX"
    refused(bare("flux"), InputError, match, "clear", saved("sd3"))
    match = r"are for FLUX \(3 .*\), and this model is PixArt \(2 "
    refused(bare("pixart"), InputError, match, "clear", saved("flux"))


def test_other_options_than_those_of_the_weights(saved):
    folder = saved("flux")
    file = folder / "clear_local_2_down_2.safetensors"
    for weights in (file, folder):
        match = "trained with window 2, not 3; leave window out"
        refused(bare("flux"), UsageError, match, "clear", weights, window=3)
    match = "trained with down_factor 2, not 1; leave down_factor out"
    refused(bare("flux"), UsageError, match, "clear", file, down_factor=1)
    refused(bare("sd"), UsageError, "bring their own seed", "linfusion", saved("sd"), seed=2)


def test_a_folder_of_several_weights(saved, tmp_path):
    for one in (saved("flux"), saved("flux", window=3)):
        for file in one.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    match = "say by window= .* clear_local_2_down_2.safetensors, clear_local_3_down_2.safetensors"
    refused(bare("flux"), UsageError, match, "clear", tmp_path)
    done = gensynth.linearize(bare("flux"), "clear", tmp_path, window=3, down_factor=2)
    assert done.options.window == 3


def test_a_renamed_file_needs_its_window(saved, tmp_path):
    state = load_file(saved("flux") / "clear_local_2_down_2.safetensors")
    save_file(state, tmp_path / "attn_weights.safetensors")
    refused(bare("flux"), UsageError, "say window=", "clear", tmp_path / "attn_weights.safetensors")
    done = gensynth.linearize(bare("flux"), "clear", tmp_path, window=2)
    assert (done.options.window, done.options.down_factor) == (2, 2)


def test_tensors_that_are_missing_or_too_many(saved, tmp_path):
    state = load_file(saved("flux") / "clear_local_2_down_2.safetensors")
    file = tmp_path / "clear_local_2_down_2.safetensors"
    last = "single_transformer_blocks.1.attn.to_v.bias"
    save_file({n: t for n, t in state.items() if n != last}, file)
    refused(bare("flux"), InputError, "to_v.bias is missing, and should be", "clear", file)
    save_file({**state, last: torch.zeros(3)}, file)
    refused(bare("flux"), InputError, r"to_v.bias is \[3\], and should be \[32\]", "clear", file)
    save_file({**state, last.replace("to_v", "to_w"): torch.zeros(3)}, file)
    refused(bare("flux"), InputError, "have a tensor to_w.bias", "clear", file)
    save_file({**state, last: torch.full((32,), torch.nan)}, file)
    refused(bare("flux"), CorruptError, "is not of finite numbers", "clear", file)


@pytest.mark.parametrize("key", ["7.to_q.weight", "to_q.weight", "1.extra.weight"])
def test_tensors_of_no_attention(saved, tmp_path, key):
    """sd has 7 attentions, 0 to 6."""
    for file in saved("sd").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), key: torch.zeros(2)}, file)
    match = "have a tensor extra.weight" if "extra" in key else f"7 attentions, and {key} belongs"
    refused(bare("sd"), InputError, match, "linfusion", tmp_path)


def test_files_that_are_no_weights(saved, tmp_path):
    refused(bare("sd"), InputError, "there is no file or folder", "linfusion", tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    refused(bare("sd"), InputError, "not that of a LinFusion", "linfusion", tmp_path)
    config = (saved("sd") / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(config)
    refused(bare("sd"), InputError, "has no weights", "linfusion", tmp_path)
    torch.save({}, tmp_path / "diffusion_pytorch_model.bin")
    refused(bare("sd"), RefusedError, "in pickles only", "linfusion", tmp_path)
    refused(bare("flux"), RefusedError, "in pickles only", "clear", tmp_path, window=2)
    named = tmp_path / "diffusion_pytorch_model.bin"
    refused(bare("flux"), RefusedError, "no file of safetensors", "clear", named, window=2)
    whole = (saved("sd") / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(whole[:-100])
    refused(bare("sd"), CorruptError, "is damaged", "linfusion", tmp_path)
    (tmp_path / "config.json").unlink()
    refused(bare("sd"), InputError, "has no config.json", "linfusion", tmp_path)
    match = "say which weights of Huage001/CLEAR are meant by window="
    refused(bare("flux"), UsageError, match, "clear", "Huage001/CLEAR")


@pytest.fixture
def hub(saved, tmp_path, monkeypatch):
    """What was fetched of two hub ids; others cannot be."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name, family in (("Yuanshi--LinFusion-1-5", "sd"), ("Huage001--CLEAR", "flux")):
        copy = tmp_path / f"models--{name}"
        snapshot = copy / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (copy / "refs").mkdir()
        (copy / "refs" / "main").write_text("0" * 40)
        for file in saved(family).iterdir():
            (snapshot / file.name).write_bytes(file.read_bytes())


def test_the_hub(hub):
    """What is there of a hub id on this machine is taken; of others it is said why not."""
    gensynth.linearize(bare("sd"), "linfusion", "Yuanshi/LinFusion-1-5")
    named = "Yuanshi/LinFusion-1-5/diffusion_pytorch_model.safetensors"
    gensynth.linearize(bare("sd"), "linfusion", named)
    gensynth.linearize(bare("flux"), "clear", "Huage001/CLEAR", window=2, down_factor=2)
    named = "Huage001/CLEAR/clear_local_2_down_2.safetensors"
    assert gensynth.linearize(bare("flux"), "clear", named).options.window == 2
    match = "as a hub id they cannot be fetched: HF_HUB_OFFLINE forbids it"
    refused(bare("sd"), InputError, match, "linfusion", "Yuanshi/LinFusion-XL")


def test_what_the_hub_has_not(hub):
    """The one file that is there has other options, and is not the one meant."""
    match = r"CLEAR has no clear_local_5\.safetensors on this machine.* window 8, 16, 32"
    refused(bare("flux"), InputError, match, "clear", "Huage001/CLEAR", window=5)
    match = r"CLEAR has no clear_local_2_down_4\.safetensors"
    refused(bare("flux"), InputError, match, "clear", "Huage001/CLEAR", window=2, down_factor=4)
    named = "Huage001/CLEAR/clear_local_9.safetensors"
    refused(bare("flux"), InputError, "CLEAR has no clear_local_9", "clear", named)
    match = r"CLEAR has no diffusion_pytorch_model\*.* Published are Yuanshi/LinFusion-1-5"
    refused(bare("sd"), InputError, match, "linfusion", "Huage001/CLEAR")


@pytest.mark.parametrize("from_allowed", ["named", "not named"])
def test_what_is_asked_of_the_hub(saved, monkeypatch, from_allowed):
    """config.json comes with a file that is named, and is not there without asking."""
    import huggingface_hub

    from gensynth.system import hub as asking

    asked = []

    def fetch(owner, allow_patterns, local_files_only):
        asked.extend(allow_patterns)
        return str(saved("sd"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(asking, "_problem", lambda: None)
    file = "/diffusion_pytorch_model.safetensors" if from_allowed == "named" else ""
    gensynth.linearize(bare("sd"), weights=f"Yuanshi/LinFusion-1-5{file}")
    assert "config.json" in asked
    assert any(
        fnmatch(f"{file or '/diffusion_pytorch_model.safetensors'}"[1:], one) for one in asked
    )


def test_where_weights_cannot_be_written(tmp_path, monkeypatch):
    model = bare("sd")
    gensynth.linearize(model)
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="is a file, so it can hold no folder; choose anoth"):
            gensynth.linearize.save(model, target)
    assert (tmp_path / "file").read_text() == "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    gensynth.linearize.save(model, "~/student")
    gensynth.linearize(bare("sd"), weights="~/student")
    assert {one.name for one in tmp_path.iterdir()} == {"file", "student"}


def test_models_without_weights(saved, tmp_path):
    with torch.device("meta"):
        model = type(bare("sd")).from_config(bare("sd").config)
    match = r"attn1\.to_q has no weights yet \(device meta\); load them first"
    refused(model, UsageError, match, "linfusion", saved("sd"))
    gensynth.linearize(model)
    with pytest.raises(UsageError, match=match):
        gensynth.linearize.save(model, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_networks_of_a_part_of_the_width(tmp_path):
    """projection_scale, as SDXL's were published; saved and loaded as the widths that they are."""
    model = bare("sdxl")
    done = gensynth.linearize(model, projection_scale=8)
    for one in done.replaced:
        first = model.get_submodule(f"{one.name}.to_q_.0")
        assert (first.in_features, first.out_features) == (one.width, one.width // 8)
    gensynth.linearize.save(model, tmp_path)
    again = gensynth.linearize(bare("sdxl"), weights=tmp_path)
    assert again.options.projection_scale == 1
    with pytest.raises(UsageError, match="without projection_dim"):
        gensynth.linearize(bare("sdxl"), projection_scale=8, projection_dim=4)


def test_options_are_those_of_the_weights(saved):
    """Whether they say so themselves, or their shapes do."""
    for name, expected in (("sd", None), ("sdxl", 5)):
        done = gensynth.linearize(bare(name), weights=saved(name))
        assert done.options.projection_dim == expected
    further = {"proportional_attention": True, "ntk_factor": 3.0}
    folder = saved("flux", **further)
    done = gensynth.linearize(bare("flux"), "clear", folder)
    assert (done.options.window, done.options.down_factor) == (2, 2)
    assert (done.options.proportional_attention, done.options.ntk_factor) == (True, 3.0)
    done = gensynth.linearize(bare("flux"), "clear", folder, ntk_factor=1.0)  # may differ
    assert (done.options.proportional_attention, done.options.ntk_factor) == (True, 1.0)
