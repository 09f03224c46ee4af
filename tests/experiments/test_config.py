"""What a configuration says when it is read: defaults, overrides, and the way there and back."""

from pathlib import Path

import pytest
import yaml

from configs import DDPM, MINIMAL
from gensynth.config import Experiment, parse_yaml
from gensynth.experiments.read import load_experiment

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("tree", [MINIMAL, DDPM])
def test_defaults_survive_a_round_trip(write, tree):
    experiment = load_experiment(write(tree))
    again = load_experiment(write(experiment.to_yaml()))
    assert again == experiment
    assert again.to_yaml() == experiment.to_yaml()


EVERYTHING = """
output: "012"
seed: 3
data: {source: parquet, path: "1e5", size: 64, classes: ["no", "1e5", "null", "12:30"]}
model: {name: DiCo-S, depth: [1, 2, 3, 4, 5], mlp_ratio: 1.5}
objective: {name: flow, time_scale: 1000}
optimizer: {lr: 3e-5, betas: [0.5, 0.6], clip: 1.0}
ema: null
sampling: {guided_channels: 3, guidance: 1.5}
"""


def test_everything_set_survives_a_round_trip(write):
    experiment = load_experiment(write(EVERYTHING))
    assert experiment.data.classes == ["no", "1e5", "null", "12:30"]
    assert experiment.optimizer.lr == 3e-5
    assert experiment.model.model_extra == {"depth": [1, 2, 3, 4, 5], "mlp_ratio": 1.5}
    assert experiment.ema is None
    assert load_experiment(write(experiment.to_yaml())) == experiment


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda p: p.stem)
def test_the_configurations_we_ship_load(path):
    # teachers are on the hub, or trained first; some other folder stands for them
    teacher = ["objective.teacher=emoji"] if path.parent.name == "linearize" else []
    experiment = load_experiment(path, teacher)
    assert isinstance(experiment, Experiment)
    assert experiment.output.startswith("runs/")


def test_there_are_configurations():
    assert list(ROOT.glob("configs/**/*.yaml"))


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optimizer.lr=1e-4", lambda e: e.optimizer.lr == 1e-4),
        ("optimizer.lr=1", lambda e: e.optimizer.lr == 1.0),
        ("optimizer.lr=+2.5E-3", lambda e: e.optimizer.lr == 2.5e-3),
        ("training.steps=7", lambda e: e.training.steps == 7),
        ("data.flip=true", lambda e: e.data.flip is True),
        ("ema=null", lambda e: e.ema is None),
        ("ema.decay=0.5", lambda e: e.ema.decay == 0.5),
        ("optimizer.betas=[0.8, 0.9]", lambda e: e.optimizer.betas == [0.8, 0.9]),
        ("model.hidden_size=16", lambda e: e.model.model_extra == {"hidden_size": 16}),
        ("output=a=b", lambda e: e.output == "a=b"),
    ],
)
def test_overrides(write, override, read):
    assert read(load_experiment(write(MINIMAL), [override]))


def test_the_last_override_wins_and_others_stay(write):
    tree = {**MINIMAL, "training": {"steps": 5, "batch_size": 8}}
    experiment = load_experiment(write(tree), ["training.steps=6", "training.steps=7"])
    assert (experiment.training.steps, experiment.training.batch_size) == (7, 8)


def test_numbers_without_a_dot_are_numbers_in_the_file_too(write):
    text = yaml.safe_dump(MINIMAL) + "optimizer:\n  lr: 1e-4\n"
    assert load_experiment(write(text)).optimizer.lr == 1e-4


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1e-4", 1e-4),
        ("12:30:45", "12:30:45"),
        ("-5", -5),
        ("null", None),
        ("1.5", 1.5),
        ("'1'", "1"),
    ],
)
def test_plain_words_and_numbers_mean_what_they_look_like(text, value):
    parsed = parse_yaml(text, "here")
    assert parsed == value and type(parsed) is type(value)
