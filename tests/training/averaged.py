"""A tiny run with several averages and a snapshot at every second step."""

import os
import signal
from pathlib import Path

from tiny import write_experiment

from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train
from gensynth.training.run import Run

SEVERAL = {"ema.decay": [0.9, 0.5], "ema.stds": [0.05, 0.1], "ema.snapshot_every": 2}


def several(folder: Path, *overrides: str, **changes) -> Path:
    """Trains it in `folder/run`; overrides are "a.b=value", changes "a.b": value."""
    return train(load_experiment(write_experiment(folder, **{**SEVERAL, **changes}), overrides))


def killed_before_step_8_is_saved(config: str) -> None:
    """Trains, in a process of its own."""
    save = Run.save

    def killed(self: Run) -> None:
        if self.step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self)

    Run.save = killed
    train(load_experiment(config))
