"""What else a checkpoint may hold: harmless things, code, and tensors that are not plain."""

import argparse
import fractions
import os
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from states import MARK, changes, store

from gensynth.convert.checkpoint import convert
from gensynth.convert.reading import read_state
from gensynth.errors import CorruptError, InputError, RefusedError


def settings_of_hydra():
    """What a pickle of OmegaConf's settings names, without OmegaConf."""
    module = types.ModuleType("omegaconf.dictconfig")
    kind = type("DictConfig", (), {"__module__": module.__name__, "__qualname__": "DictConfig"})
    module.DictConfig = kind
    made = kind()
    made.content = {"lr": 1e-4}
    return module, made


def test_harmless_things_beside_the_weights_are_let_pass(weights, tmp_path, monkeypatch):
    module, hydra = settings_of_hydra()
    for name in ("omegaconf", "omegaconf.dictconfig"):
        monkeypatch.setitem(sys.modules, name, module)
    content = {
        "ema": weights,
        "step": np.int64(3),
        "best_fid": np.float32(3.5),
        "history": np.arange(4.0),
        "random": np.random.default_rng(0).bit_generator.state["state"],
        "args": argparse.Namespace(lr=1e-4, out=pathlib.Path("runs")),
        "more": types.SimpleNamespace(a=1),
        "hyper_parameters": hydra,
    }
    assert read_state(store(tmp_path / "x.pt", content), "dit").part == "ema"


def test_another_protocol_is_called_so(weights, tmp_path):
    torch.save({"ema": weights}, tmp_path / "x.pt", pickle_protocol=4)
    with pytest.raises(RefusedError, match=r"a pickle of another protocol.*pickle_protocol=2"):
        read_state(tmp_path / "x.pt", "dit")


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain 2", "plain 5", "protocol 5"])
@pytest.mark.parametrize("function", ["os.system", "builtins.eval", "pathlib.Path.touch"])
def test_a_dangerous_pickle_is_called_what_it_is(kind, function, weights, tmp_path):
    file, touched = tmp_path / "x.pt", tmp_path / "touched"
    trap = {
        "os.system": Calls(os.system, f"touch {touched}"),
        "builtins.eval": Calls(eval, f"open({str(touched)!r}, 'w')"),
        "pathlib.Path.touch": Calls(pathlib.Path.touch, touched),
    }[function]
    content = {"ema": weights, "trap": trap}
    if kind.startswith("plain"):
        file.write_bytes(pickle.dumps(content, protocol=int(kind[-1])))
    else:
        torch.save(
            content,
            file,
            pickle_protocol=5 if kind == "protocol 5" else 2,
            _use_new_zipfile_serialization=kind != "legacy",
        )
    with pytest.raises(RefusedError, match=r"is a pickle that needs .*could run code") as caught:
        read_state(file, "dit")
    assert "damaged" not in str(caught.value)
    assert not touched.exists()


def test_a_program_is_called_one(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "x.pt")
    with pytest.raises(RefusedError, match="a program of TorchScript"):
        read_state(tmp_path / "x.pt")


def test_the_advice_about_a_dangerous_pickle_works(weights, tmp_path):
    file = store(tmp_path / "x.pt", {"ema": weights, "at": Calls(fractions.Fraction, 3)})
    with pytest.raises(RefusedError, match="weights_only=False"):
        read_state(file, "dit")
    loaded = torch.load(file, weights_only=False)["ema"]
    assert read_state(store(tmp_path / "new.pt", loaded), "dit").tensors.keys() == weights.keys()


def test_views_that_claim_more_than_the_file_holds_are_refused(weights, tmp_path):
    content = {**weights, "pos_embed": torch.zeros(1).expand(10**6, 10**6)}
    with pytest.raises(CorruptError, match=r"pos_embed is \[1000000, 1000000\], more than"):
        read_state(store(tmp_path / "x.pt", content), "dit")


@pytest.mark.parametrize(
    "odd",
    [
        torch.eye(32).to_sparse(),
        torch.zeros(32, device="meta"),
        torch.quantize_per_tensor(torch.ones(32), 0.1, 0, torch.qint8),
        torch.ones(32, dtype=torch.complex64),
    ],
    ids=["sparse", "meta", "quantized", "complex"],
)
def test_tensors_that_are_not_plain_are_refused(weights, odd, tmp_path):
    with pytest.raises(InputError, match=rf"stores {MARK} in a format that is not read"):
        read_state(store(tmp_path / "x.pt", {**weights, MARK: odd}), "dit")


def test_whole_numbers_are_no_weights(weights, tiny_vae_folder, tmp_path):
    file = store(tmp_path / "x.pt", {**weights, MARK: weights[MARK].to(torch.int8)})
    with pytest.raises(CorruptError, match=r"whole numbers \(torch.int8\) for final_layer"):
        convert(
            *("dit", file, tmp_path / "out", "DiT-nano/2", str(tiny_vae_folder)),
            changes=changes("dit"),
        )
