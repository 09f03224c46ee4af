"""Runs on captions that begin with a model of classes, and with a model of captions."""

import pytest
import torch
from safetensors.torch import load_file
from test_captions import write
from tiny import losses, write_experiment

import gensynth
from gensynth.errors import UsageError
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """A run of two steps on captions to begin from."""
    return train(load_experiment(write(tmp_path_factory.mktemp("first")), ["training.steps=2"]))


def new(folder, first, *overrides):
    given = [f"init_from={first}", "training.steps=2", "optimizer.lr=1e-30", "ema={decay: 0.0}"]
    return train(load_experiment(write(folder), [*given, *overrides]))


def test_text_instead_of_classes(tmp_path, capsys):
    first = train(load_experiment(write_experiment(tmp_path / "1"), ["training.steps=2"]))
    capsys.readouterr()
    run = new(tmp_path / "2", first)
    said = capsys.readouterr().err.splitlines()
    assert any(line.split()[:3] == ["class_embedders", "left", "behind"] for line in said)
    assert any("not in that model" in line and "text" in line.split()[0] for line in said)
    before, after = (gensynth.load(r, device="cpu").model.state_dict() for r in (first, run))
    torch.testing.assert_close(after["stem.weight"], before["stem.weight"])


def test_the_words_of_the_model_are_kept(captions, tmp_path):
    """Other captions would make other tokens, which the weights do not mean."""
    run = new(tmp_path, captions)
    ours, theirs = (gensynth.load(r, device="cpu") for r in (run, captions))
    assert ours.condition.describe() == theirs.condition.describe()
    pictures = [pipe.draw(["a grey bag"], [0])[0].tobytes() for pipe in (ours, theirs)]
    assert pictures[0] == pictures[1]


def test_adapters_of_a_model_of_captions(captions, tmp_path):
    given = ["optimizer.lr=1e-2", "ema={decay: 0.5}", "lora={rank: 2, whole: ['text*']}"]
    run = new(tmp_path / "a", captions, *given)
    tensors = load_file(run / "adapter/adapter_model.safetensors")
    assert any(".lora_A" in name for name in tensors)
    assert any(".lora_" not in name for name in tensors)  # the text parts
    pipe = gensynth.load(captions, device="cpu", lora=run)
    merged = gensynth.load(run, device="cpu")
    drawn = [p.draw(["shirt"], [3])[0] for p in (pipe, merged)]
    pairs = zip(drawn[0].tobytes(), drawn[1].tobytes(), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= 1
    stopped = new(tmp_path / "b", captions, *given, "training.steps=1")
    assert new(tmp_path / "b", captions, *given) == stopped
    assert losses(stopped) == losses(run)
    again = load_file(stopped / "adapter/adapter_model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_adapters_are_for_a_model_of_the_same_words(captions, tmp_path):
    with pytest.raises(UsageError, match="its words are other tokens than those of this run"):
        new(tmp_path, captions, "condition.vocabulary=300", "lora={rank: 2}")
