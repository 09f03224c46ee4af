"""A tiny run with several averages and a snapshot at every second step."""

from pathlib import Path

from tiny import write_experiment

from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

SEVERAL = {"ema.decay": [0.9, 0.5], "ema.stds": [0.05, 0.1], "ema.snapshot_every": 2}


def several(folder: Path, *overrides: str, **changes) -> Path:
    """Trains it in `folder/run`; overrides are "a.b=value", changes "a.b": value."""
    return train(load_experiment(write_experiment(folder, **{**SEVERAL, **changes}), overrides))
