"""Checkpoints as trainers leave them: which weights are taken, and what is said of them."""

import pathlib
import re

import pytest
import torch
from safetensors.torch import save_file
from states import MARK, changes, store

from gensynth.convert import SYSTEMS
from gensynth.convert.checkpoint import Converted, convert
from gensynth.convert.finding import bare, is_averaged
from gensynth.convert.reading import read_state
from gensynth.errors import InputError, UsageError


def marked(weights, value):
    """A state that says which one it is."""
    return {**weights, MARK: torch.full_like(weights[MARK], value)}


def front(text, state):
    return {text + name: tensor for name, tensor in state.items()}


def in_blocks(wrapper, state):
    return {re.sub(r"(blocks\.\d+\.)", rf"\1{wrapper}.", name): t for name, t in state.items()}


def dotless(state):
    return {name.replace(".", ""): tensor for name, tensor in state.items()}


# What a trainer stores -> where its weights are; `raw` is marked 1 and `ema` 2, what is taken is 2
# if `averaged` and else 1.
KEPT = {
    "timm": (lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema}, "state_dict_ema"),
    "mae": (lambda raw, ema: {"model": raw, "model_ema": ema, "epoch": 3}, "model_ema"),
    "nerf": (lambda raw, ema: {"model": raw, "ema_state_dict": ema}, "ema_state_dict"),
    "fairseq": (lambda raw, ema: {"model": raw, "extra_state": {"ema": ema}}, "extra_state.ema"),
    "swa": (
        lambda raw, ema: {
            "net": raw,
            "averager": {"n_averaged": torch.tensor(7), **front("module.", ema)},
        },
        "averager",
    ),
    "lightning callback": (
        lambda raw, ema: {
            "state_dict": front("model.", raw),
            "callbacks": {"EMACallback{'decay': 0.99}": {"ema_state_dict": front("model.", ema)}},
        },
        "callbacks.EMACallback{'decay': 0.99}.ema_state_dict.model",
    ),
    "lightning fronts": (
        lambda raw, ema: {"state_dict": {**front("model.", raw), **front("ema_model.", ema)}},
        "state_dict.ema_model",
    ),
    "lightning averaging": (
        lambda raw, ema: {
            "state_dict": ema,
            "current_model_state": raw,
            "averaging_state": {"n_averaged": torch.tensor(7)},
        },
        "state_dict",
    ),
    "ldm": (
        lambda raw, ema: {
            "state_dict": {
                **front("model.net.", raw),
                **front("model_ema.", dotless(front("net.", ema))),
                "model_ema.decay": torch.tensor(0.9999),
                "model_ema.num_updates": torch.tensor(5),
            }
        },
        "state_dict.model_ema",
    ),
    "ema_pytorch": (
        lambda raw, ema: {
            **front("online_model.", raw),
            **front("ema_model.", ema),
            "initted": torch.tensor([True]),
            "step": torch.tensor([9]),
        },
        "ema_model",
    ),
    "score_sde": (
        lambda raw, ema: {
            "model": front("module.", raw),
            "ema": {"decay": 0.999, "shadow_params": list(ema.values())},
        },
        "ema.shadow_params",
    ),
    "torch_ema": (
        lambda raw, ema: {
            "model": raw,
            "ema": {"shadow_params": [t for name, t in ema.items() if name != "pos_embed"]},
        },
        "ema.shadow_params",
    ),
    "trained only": (
        lambda raw, ema: {
            "model": raw,
            "ema": {name: t for name, t in ema.items() if name != "pos_embed"},
        },
        "ema",
    ),
    "fsdp": (lambda raw, ema: {"ema": front("_fsdp_wrapped_module.", ema)}, "ema"),
    "compiled blocks": (lambda raw, ema: {"ema": in_blocks("_orig_mod", ema)}, "ema"),
    "checkpointed blocks": (
        lambda raw, ema: {"ema": in_blocks("_checkpoint_wrapped_module", ema)},
        "ema",
    ),
}
RAW = {
    "deepspeed": (lambda raw: {"module": raw, "ds_config": {}, "lr_scheduler": None}, "module"),
    "lightning": (
        lambda raw: {
            "state_dict": {
                **front("model.", raw),
                **front("loss.lpips.", {"net.0.weight": torch.ones(3)}),
            },
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4)}}}],
        },
        "state_dict.model",
    ),
    "moments": (
        lambda raw: {"model": raw, "opt": {"exp_avg": [torch.ones(9)], "emb": torch.ones(2, 2)}},
        "model",
    ),
}


@pytest.mark.parametrize("kept", KEPT)
def test_averaged_weights_are_found_wherever_they_are(kept, weights, tmp_path):
    make, part = KEPT[kept]
    content = make(marked(weights, 1.0), marked(weights, 2.0))
    state = read_state(store(tmp_path / "x.pt", content), "dit")
    assert (state.part, state.averaged) == (part, True)
    assert state.tensors.keys() == weights.keys()
    assert all(torch.equal(state.tensors[k], t) for k, t in marked(weights, 2.0).items())


@pytest.mark.parametrize("kept", RAW)
def test_other_weights_are_taken_where_there_are_no_averaged_ones(kept, weights, tmp_path):
    make, part = RAW[kept]
    state = read_state(store(tmp_path / "x.pt", make(weights)), "dit")
    assert (state.part, state.averaged) == (part, False)
    assert state.tensors.keys() == weights.keys()


def test_what_an_average_lacks_is_said(weights, tiny_vae_folder, tmp_path):
    ema = {name: t for name, t in weights.items() if name != "pos_embed"}
    file = store(tmp_path / "x.pt", {"model": weights, "ema": ema})
    made = convert(
        *("dit", file, tmp_path / "out", "DiT-nano/2", str(tiny_vae_folder)),
        changes=changes("dit"),
    )
    assert "note: the average is without pos_embed, which came from the weights" in made.summary()


@pytest.mark.parametrize(
    ("part", "averaged", "words"),
    [
        ("ema", True, "EMA weights\n"),
        ("model_ema", True, "EMA weights ('model_ema')"),
        (None, True, "EMA weights\n"),
        (None, False, "does not say whether"),
        ("model", False, "'model', which the file does not call averaged"),
    ],
)
def test_what_is_said_of_the_weights(part, averaged, words):
    made = Converted(pathlib.Path("out"), "dit", "DiT-S/2", 5, part, averaged, 256)
    assert words in made.summary()


def test_one_of_several_averages_is_asked_for_and_can_be_named(weights, tmp_path):
    content = {"model": weights, "ema1": marked(weights, 1.0), "ema2": marked(weights, 2.0)}
    file = store(tmp_path / "x.pt", content)
    with pytest.raises(UsageError, match=r"under ema1, ema2; choose one with --part"):
        read_state(file, "dit")
    assert read_state(file, "dit", "ema2").tensors[MARK].unique().item() == 2
    assert read_state(file, "dit", "model").averaged is False
    with pytest.raises(UsageError, match=r"'ema3'\. Did you mean 'ema[12]'\?.*model, ema1, ema2"):
        read_state(file, "dit", "ema3")


def test_equal_averages_need_no_choice(weights, tmp_path):
    content = {"ema": weights, "callbacks": {"EMA": {"ema_state_dict": dict(weights)}}}
    assert read_state(store(tmp_path / "x.pt", content), "dit").part == "ema"


@pytest.mark.parametrize("averages", ["a list of others", "names of others"])
def test_averages_that_cannot_be_read_are_not_denied(averages, weights, tmp_path):
    others = [torch.ones(300, 300), torch.ones(2)]
    ema = {"shadow_params": others} if averages.startswith("a list") else {"w.0": others[0]}
    file = store(tmp_path / "x.pt", {"model": weights, "ema": ema})
    with pytest.raises(InputError, match=r"holds averaged weights under ema.*--part model"):
        read_state(file, "dit")
    assert read_state(file, "dit", "model").part == "model"  # the advice works


@pytest.mark.parametrize(
    ("name", "averaged"),
    [
        ("ema", True),
        ("modelEMA", True),
        ("EMACallback", True),
        ("ema_0.9999", True),
        ("swa_state_dict", True),
        ("exp_avg", False),
        ("embedder", False),
        ("non_ema", False),
        ("schema", False),
    ],
)
def test_words_that_mean_an_average(name, averaged):
    assert is_averaged([name]) is averaged


def test_no_published_name_has_a_wrapper_in_it():
    for module in SYSTEMS.values():
        names = [start + "x" for start in module.NAMES.prefixes]
        names += [part.strip(".") for part in module.NAMES.parts]
        assert [bare(name) for name in names] == names


def test_safetensors_are_known_by_what_is_in_them(weights, tmp_path):
    content = {**front("model.", weights), **front("ema_model.", marked(weights, 2.0))}
    apart = {name: tensor.clone() for name, tensor in content.items()}  # no memory in common
    save_file(apart, tmp_path / "pytorch_model.bin")
    state = read_state(tmp_path / "pytorch_model.bin", "dit")
    assert (state.part, state.tensors[MARK].unique().item()) == ("ema_model", 2)
