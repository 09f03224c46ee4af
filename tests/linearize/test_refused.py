"""What cannot be linearized is said in a sentence, and nothing is half done."""

import json

import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from linear_models import CASES, bare, call, tiny
from safetensors.torch import load_file, save_file

import gensynth
from gensynth.errors import CorruptError, InputError, RefusedError, UsageError


def outline(model):
    """All that linearizing may touch."""
    return (
        [(name, type(m), sorted(vars(m))) for name, m in model.named_modules()],
        {name: (p.data_ptr(), p._version) for name, p in model.named_parameters()},
        len(model._forward_pre_hooks),
    )


def refused(pipe, error, match, *arguments, **options):
    before = outline(pipe)
    with pytest.raises(error, match=match):
        gensynth.linearize(pipe, *arguments, **options)
    assert outline(pipe) == before


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders with weights of students, by family."""
    made = {}

    def make(name, **others):
        key = (name, *others.items())
        if key not in made:
            method, options = CASES[name]
            made[key] = tmp_path_factory.mktemp(name)
            pipe = bare(name)
            gensynth.linearize(pipe, method, **{**options, **others})
            gensynth.linearize.save(pipe, made[key])
        return made[key]

    return make


def test_a_method_that_does_not_fit_says_which_does():
    fits = r"it is for FLUX, Stable Diffusion 3, PixArt, DiT. For Stable Diffusion \(UNet\) there"
    refused(bare("sd"), UsageError, fits + " is linfusion", "clear", window=2)
    fits = r"FLUX \(FluxTransformer2DModel\): it is for Stable Diffusion \(UNet\), DiT"
    refused(bare("flux"), UsageError, fits)
    with pytest.raises(UsageError, match="no method fits a Linear; known are UNet2DConditionModel"):
        gensynth.linearize(torch.nn.Linear(2, 2))
    with pytest.raises(UsageError, match="a str is neither a model nor a pipeline"):
        gensynth.linearize("stable-diffusion")


def test_unknown_words():
    refused(bare("flux"), UsageError, "unknown method 'clera'; .* mean 'clear'", "clera")
    refused(bare("flux"), UsageError, "no option 'windw'; .* mean 'window'", "clear", windw=3)


@pytest.mark.parametrize(
    "options, match",
    [
        ({}, "say window=; the radius in tokens"),
        ({"window": 0}, "window must be a whole number from 1, got 0"),
        ({"window": 2, "down_factor": 1.5}, "down_factor must be a whole number"),
        ({"window": 2, "ntk_factor": float("nan")}, "ntk_factor must be a number above 0"),
        ({"window": 2, "proportional_attention": 1}, "must be True or False, got 1"),
    ],
)
def test_options_of_clear(options, match):
    refused(bare("flux"), UsageError, match, "clear", **options)


def test_options_that_a_family_has_not():
    pipe = bare("sd3")
    refused(pipe, UsageError, "ntk_factor is for .* FLUX", "clear", window=2, ntk_factor=2.0)
    refused(bare("sd"), UsageError, "projection_dim must be", "linfusion", projection_dim=0)


def test_linearized_already():
    pipe = bare("sd")
    gensynth.linearize(pipe)
    refused(pipe, UsageError, r"linearized already \(linfusion\); call gensynth.restore first")
    gensynth.restore(pipe)
    with pytest.raises(UsageError, match="not linearized, so there is nothing to restore"):
        gensynth.restore(pipe)
    gensynth.linearize(pipe)


def test_compiled():
    pipe = bare("sd")
    pipe.mid_block.compile(backend="eager")
    refused(pipe, UsageError, r"compiled \(torch.compile\) .* first, then compile")
    pipe = tiny("sd")
    gensynth.linearize(pipe)
    whole = pipe.unet
    pipe.unet = torch.compile(whole, backend="eager")
    with pytest.raises(UsageError, match="compiled"):
        gensynth.restore(pipe)
    pipe.unet = whole
    gensynth.restore(pipe)


@pytest.mark.parametrize("name", ["sd", "flux", "sd3", "pixart"])
def test_fused_projections(name):
    method, options = CASES[name]
    pipe = bare(name)
    pipe.fuse_qkv_projections()
    refused(pipe, UsageError, r"are fused; call unfuse_qkv_projections\(\)", method, **options)
    pipe.unfuse_qkv_projections()  # the advice
    gensynth.linearize(pipe, method, **options)
    pipe.fuse_qkv_projections()
    with pytest.raises(UsageError, match="are fused"):
        gensynth.restore(pipe)
    pipe.unfuse_qkv_projections()
    gensynth.restore(pipe)
    assert torch.equal(call(pipe), call(bare(name)))


def test_processors_that_do_more_than_attention():
    pipe = bare("sd")
    attention = pipe.mid_block.attentions[0].transformer_blocks[0].attn1
    plain = attention.processor
    attention.set_processor(PAGIdentitySelfAttnProcessor2_0())
    refused(pipe, UsageError, "PAGIdentitySelfAttnProcessor2_0, which does more than attention")
    attention.set_processor(plain)
    gensynth.linearize(pipe)
    attention.set_processor(PAGIdentitySelfAttnProcessor2_0())
    with pytest.raises(UsageError, match=r"gensynth\.restore the model"):
        call(pipe)
    gensynth.restore(pipe)


def test_offloading_of_single_layers():
    from accelerate import cpu_offload

    pipe = bare("sd")
    cpu_offload(pipe, torch.device("cpu"))
    refused(pipe, UsageError, "offloading of single layers")


def test_offloading_of_groups():
    pipe = bare("flux")
    pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    match = "call this before enable_group_offload"
    refused(pipe, UsageError, match, "clear", window=2)


def test_a_factor_that_the_usual_size_does_not_fit():
    pipe = bare("flux")
    done = gensynth.linearize(pipe, "clear", window=2, down_factor=3)
    assert "at 66x66 tokens" in done.runs
    assert call(pipe, 12, 18).isfinite().all()


def test_saving_as_a_softmax_model(tmp_path):
    pipe = tiny("pixart")
    gensynth.linearize(pipe, "clear", window=2)
    with pytest.raises(UsageError, match=r"save .* by gensynth.linearize.save\(pipe, folder\)"):
        pipe.save_pretrained(tmp_path / "whole")
    gensynth.linearize.save(pipe, tmp_path / "own")  # the advice, and the other
    gensynth.restore(pipe)
    pipe.save_pretrained(tmp_path / "softmax")


def test_attentions_need_their_model():
    pipe = bare("pixart")
    gensynth.linearize(pipe, "clear", window=2)
    attention = pipe.transformer_blocks[0].attn1
    with pytest.raises(UsageError, match="call the model that was linearized"):
        attention(torch.zeros(1, 16, 32))
    with pytest.raises(UsageError, match="without attention_mask"):
        attention(torch.zeros(1, 16, 32), attention_mask=torch.zeros(1, 1, 16))


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


def test_the_hub(saved, tmp_path, monkeypatch):
    """What is there of a hub id on this machine is taken; of others it is said why not."""
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
    gensynth.linearize(bare("sd"), "linfusion", "Yuanshi/LinFusion-1-5")
    gensynth.linearize(bare("flux"), "clear", "Huage001/CLEAR", window=2, down_factor=2)
    named = "Huage001/CLEAR/clear_local_2_down_2.safetensors"
    assert gensynth.linearize(bare("flux"), "clear", named).options.window == 2
    match = "as a hub id they cannot be fetched: HF_HUB_OFFLINE forbids it"
    refused(bare("sd"), InputError, match, "linfusion", "Yuanshi/LinFusion-XL")
