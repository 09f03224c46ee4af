"""Adapters from folders: loaded, scaled, merged, and those that do not fit."""

import json
import shutil

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import gensynth
from gensynth.errors import CorruptError, InputError, RefusedError, UsageError
from gensynth.lora.folder import Wanted

BASE = "dico-nano-fashion"
SAMPLE = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 10])


def output(pipe):
    with torch.inference_mode():
        return pipe.model(SAMPLE, 300.0, LABELS)


def made_by_peft(folder, targets, seed=0, **keywords):
    """The folder of an adapter that peft has made and saved by itself."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False, **keywords
    )
    get_peft_model(gensynth.load(BASE, device="cpu").model, config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain():
    return output(gensynth.load(BASE, device="cpu"))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return made_by_peft(tmp_path_factory.mktemp("one") / "a", ["conv_out", "mlp_in"])


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return made_by_peft(tmp_path_factory.mktemp("other") / "b", ["mlp_in", "stem"], seed=1)


def test_the_scale_is_a_share_of_what_was_trained(one, plain):
    full = output(gensynth.load(BASE, device="cpu", lora=one))
    assert (full - plain).abs().max() > 1e-3
    pipe = gensynth.load(BASE, device="cpu", lora=one, lora_scale=0.0)
    torch.testing.assert_close(output(pipe), plain, atol=1e-5, rtol=1e-4)
    pipe.lora.scale(1.0)
    assert torch.equal(output(pipe), full)
    pipe.lora.scale(0.5)
    half = output(gensynth.load(BASE, device="cpu", lora=one, lora_scale=0.5))
    assert torch.equal(output(pipe), half) and not torch.equal(half, full)


def test_merged_and_unmerged_again(one, plain):
    pipe = gensynth.load(BASE, device="cpu", lora=one, lora_scale=0.8)
    before = output(pipe)
    pipe.lora.merge()
    torch.testing.assert_close(output(pipe), before, atol=1e-4, rtol=1e-3)
    with pytest.raises(UsageError, match=r"call unmerge\(\)"):
        pipe.lora.scale(1.0)
    pipe.lora.unmerge()
    torch.testing.assert_close(output(pipe), before, atol=1e-4, rtol=1e-3)
    pipe.lora.scale(0.0)
    torch.testing.assert_close(output(pipe), plain, atol=1e-4, rtol=1e-3)


def test_two_adapters_add_up(one, other):
    """Merged one after the other they give the same as together."""
    both = gensynth.load(BASE, device="cpu", lora=[one, other], lora_scale=[0.5, 2.0])
    layer = both.model.get_submodule("levels.0.0.mlp_in")
    deltas = [layer.get_delta_weight(f"adapter_{n}") for n in (0, 1)]
    base = gensynth.load(BASE, device="cpu").model.get_submodule("levels.0.0.mlp_in").weight
    both.lora.merge()
    torch.testing.assert_close(layer.base_layer.weight, base + deltas[0] + deltas[1])
    assert [fact["scale"] for fact in both.lora.facts()] == [0.5, 2.0]


def test_what_is_saved_is_merged(one, tmp_path):
    pipe = gensynth.load(BASE, device="cpu", lora=one)
    before = output(pipe)
    pipe.save_pretrained(tmp_path / "merged")
    again = gensynth.load(tmp_path / "merged", device="cpu")
    torch.testing.assert_close(output(again), before, atol=1e-4, rtol=1e-3)
    assert again.classes == pipe.classes and again.lora is None
    assert torch.equal(output(pipe), before)  # and the adapters are still there
    pipe.lora.scale(0.5)


def changed(folder, tmp_path, config=(), tensors=None):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file = copy / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **dict(config)}))
    if tensors is not None:
        stored = copy / "adapter_model.safetensors"
        save_file(tensors(load_file(stored)), stored)
    return copy


def test_an_adapter_of_another_model_is_refused_in_a_sentence(one, tmp_path):
    with pytest.raises(InputError, match="is of another model: maskgit-fashion has no layers"):
        gensynth.load("maskgit-fashion", device="cpu", lora=one)

    def wider(tensors):
        return {n: torch.cat([t, t], 1) if "lora_A" in n else t for n, t in tensors.items()}

    with pytest.raises(InputError, match=r"do not fit each other\. Give another"):
        gensynth.load(BASE, device="cpu", lora=changed(one, tmp_path, tensors=wider))


@pytest.mark.parametrize(
    ("config", "tensors", "kind", "message"),
    [
        ({"r": 10**9}, None, CorruptError, "rank is not that of its tensors"),
        ({"r": 1}, None, InputError, "do not fit each other"),
        ({"peft_type": "LOHA"}, None, InputError, "of kind LOHA"),
        ({}, lambda t: {n: x * torch.nan for n, x in t.items()}, CorruptError, "finite"),
        ({}, lambda t: dict([*t.items()][1:]), InputError, "do not fit each other"),
        ({}, lambda t: {"x": torch.zeros(1)}, InputError, "x of it and of dico-nano-fashion"),
    ],
)
def test_damaged_and_foreign_files(one, tmp_path, config, tensors, kind, message):
    with pytest.raises(kind, match=message):
        gensynth.load(BASE, device="cpu", lora=changed(one, tmp_path, config, tensors))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "lora_only"),
        ("init_lora_weights", "pissa_niter_4"),
        ("alora_invocation_tokens", [1, 2]),
        ("layer_replication", [[0, 2], [1, 3]]),
        ("of_a_later_peft", {"any": 1}),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(one, tmp_path, key, value):
    with pytest.raises(InputError, match=f"sets {key} in adapter_config.json, which gensynth"):
        gensynth.load(BASE, device="cpu", lora=changed(one, tmp_path, {key: value}))


def test_what_only_trained_an_adapter_changes_nothing(one, tmp_path):
    """Nor do fields of another peft that say nothing."""
    told = {"init_lora_weights": "gaussian", "lora_dropout": 0.5, "layers_to_transform": [0]}
    told |= {"modules_to_save": ["x"], "of_a_later_peft": None, "another": False}
    copy = changed(one, tmp_path, told)
    drawn = [output(gensynth.load(BASE, device="cpu", lora=folder)) for folder in (one, copy)]
    assert torch.equal(*drawn)


def test_ranks_and_scales_of_single_layers_count(one, plain, tmp_path):
    full = output(gensynth.load(BASE, device="cpu", lora=one))
    quiet = changed(one, tmp_path, {"alpha_pattern": {"mlp_in": 0.0, "conv_out": 0.0}})
    found = output(gensynth.load(BASE, device="cpu", lora=quiet))
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(full, plain, atol=1e-3)
    shutil.rmtree(quiet)
    root = output(
        gensynth.load(BASE, device="cpu", lora=changed(one, tmp_path, {"use_rslora": True}))
    )
    assert not torch.equal(root, full)


def test_folders_that_hold_no_adapter(one, tmp_path):
    with pytest.raises(InputError, match=r"it has no adapter_config\.json"):
        gensynth.load(BASE, lora=tmp_path)
    with pytest.raises(InputError, match="it is no folder"):
        gensynth.load(BASE, lora=tmp_path / "nowhere")
    copy = changed(one, tmp_path)
    (copy / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(CorruptError, match="is damaged"):
        gensynth.load(BASE, lora=copy)
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    with pytest.raises(RefusedError, match="pickle"):
        gensynth.load(BASE, lora=copy)


def test_an_adapter_of_another_method_is_refused(tmp_path):
    config = IA3Config(target_modules=["mlp_in"], feedforward_modules=["mlp_in"])
    model = get_peft_model(gensynth.load(BASE, device="cpu").model, config)
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="gensynth takes those of LORA"):
        gensynth.load(BASE, lora=tmp_path)


@pytest.mark.parametrize(
    ("text", "folder", "scale"),
    [("a/b", "a/b", 1.0), ("a/b:0.8", "a/b", 0.8), ("x:y:-1", "x:y", -1.0)],
)
def test_a_folder_with_its_scale(text, folder, scale):
    wanted = Wanted.read(text)
    assert (str(wanted.folder), wanted.scale) == (folder, scale)


def test_a_folder_whose_name_has_a_colon(tmp_path):
    (tmp_path / "a:2").mkdir()
    assert Wanted.read(str(tmp_path / "a:2")).scale == 1.0


@pytest.mark.parametrize("text", ["a:", "a:big", "a:nan", "a:1e9"])
def test_scales_that_are_none(text):
    with pytest.raises(UsageError, match=r"0\.8"):
        Wanted.read(text)


def test_scales_for_each_adapter(one):
    with pytest.raises(UsageError, match="2 numbers for 1 adapters"):
        gensynth.load(BASE, lora=one, lora_scale=[1.0, 2.0])
