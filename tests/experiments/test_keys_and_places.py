"""Keys of the wrong section are answered with the right one; "~" is the home of who runs it."""

import re
from pathlib import Path

import pytest

from gensynth.config.shipped import find_config
from gensynth.errors import UsageError
from gensynth.experiments.read import read_experiment
from gensynth.pipelines.finding import resolve
from gensynth.pretrained import PRETRAINED

CONFIG = "fashion_mnist/dico_nano"
MEANT = {
    "lr=0.1": ["optimizer.lr"],
    "training.lr=0.1": ["optimizer.lr"],
    "model.learning_rate=0.1": ["optimizer.lr"],
    "siez=64": ["data.size"],
    "hiden_size=40": ["model.hidden_size"],
    "label_dropot=0.2": ["objective.label_dropout"],
    "batch_size=8": ["training.batch_size", "evaluation.batch_size"],
    "ema.keep=3": ["checkpoint.keep"],
    "data.sise=64": ["data.size"],  # of its own section first
    "sede=1": ["seed"],
}


@pytest.mark.parametrize("wrong", MEANT)
def test_a_key_of_another_section_is_named_whole(wrong):
    with pytest.raises(UsageError) as refused:
        read_experiment(CONFIG, [wrong])
    question = re.search(r"Did you mean ([^?]*)\?", str(refused.value))
    assert question is not None and re.findall("'([^']*)'", question[1]) == MEANT[wrong]
    for key in MEANT[wrong]:  # the advice works
        read_experiment(CONFIG, [f"{key}={wrong.partition('=')[2]}"])


def test_nothing_is_suggested_for_a_key_like_no_other():
    with pytest.raises(UsageError, match=r"unknown key 'foo'\. Known: output,"):
        read_experiment(CONFIG, ["foo=1"])


@pytest.mark.parametrize(
    "given",
    [
        ["output=~/runs/mine"],
        ["init_from=~/runs/a"],
        ["data.source=imagefolder", "data.path=~/pictures"],
        ["data.source=parquet", "data.path=~/shards/*.parquet"],
        ["autoencoder.kind=kl", "data.channels=3", "autoencoder.path=~/vae"],
        ["evaluation.reference=~/real.npz"],
        ["evaluation.weights=~/weights.pth"],
        ["regularizers=[{name: repa, block: levels.1.0, encoder: dinov2, path: ~/dino}]"],
    ],
    ids=lambda given: given[-1],
)
def test_a_tilde_is_the_home(monkeypatch, given):
    monkeypatch.setenv("HOME", "/at/home")
    said = read_experiment(CONFIG, given).to_yaml()
    end = re.search(r"~([^},]*)", given[-1])
    assert f": /at/home{end[1]}\n" in said and "~" not in said


def test_a_tilde_elsewhere_is_a_letter(monkeypatch):
    monkeypatch.setenv("HOME", "/at/home")
    experiment = read_experiment(CONFIG, ["output=runs/~a", "init_from=owner/name"])
    assert (experiment.output, experiment.init_from) == ("runs/~a", "owner/name")


def test_a_configuration_and_a_model_at_home_are_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(find_config(CONFIG).read_text())
    assert read_experiment("~/mine.yaml").model.name == "DiCo-nano"
    (tmp_path / "model").symlink_to(Path(PRETRAINED["dico-nano-fashion"]))
    assert resolve("~/model") == tmp_path / "model"
