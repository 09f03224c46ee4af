"""A run that was stopped, however it was stopped, ends as if it had not been."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import ROOT, Launch, command, launch, training
from tiny import losses, weights, write_experiment

from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return train(load_experiment(write_experiment(folder)))


@pytest.mark.parametrize("stop_at", [1, 3, 5, 11])  # 3 * 8 images: the first epoch has just ended
def test_resumed_run_is_bit_equal(stop_at, whole, tmp_path):
    config = write_experiment(tmp_path)
    train(load_experiment(config, [f"training.steps={stop_at}"]))
    run = train(load_experiment(config))
    assert losses(run) == losses(whole)
    assert weights(run) == weights(whole)


def test_workers_change_nothing(whole, tmp_path):
    config = write_experiment(tmp_path, **{"data.workers": 2})
    run = train(load_experiment(config))
    assert losses(run) == losses(whole)
    assert weights(run) == weights(whole)


def test_accumulation_changes_only_rounding(whole, tmp_path):
    run = train(load_experiment(write_experiment(tmp_path), ["training.gradient_accumulation=4"]))
    for step, loss in losses(whole).items():
        assert losses(run)[step] == pytest.approx(loss, rel=1e-5)


def test_streaming_resumes_bit_equal(tmp_path):
    changes = {"data.streaming": True, "data.classes": [str(n) for n in range(10)]}
    changes["data.shuffle_buffer"] = 7
    one = train(load_experiment(write_experiment(tmp_path / "one", **changes)))
    config = write_experiment(tmp_path / "two", **changes)
    train(load_experiment(config, ["training.steps=5"]))
    train(load_experiment(config, ["training.steps=6", "data.workers=2"]))
    two = train(load_experiment(config))
    assert losses(one) == losses(two)
    assert weights(one) == weights(two)


def test_killed_at_random_moments(tmp_path):
    """kill -9 while starting, stepping or saving; the last of several runs finishes."""
    steps = "training.steps=40"
    whole = train(load_experiment(write_experiment(tmp_path / "whole"), [steps]))
    config = write_experiment(tmp_path / "killed", **{"checkpoint.every": 2})
    run = tmp_path / "killed" / "run"
    saved = run / "checkpoints"
    chance = random.Random()
    for _ in range(2):
        before = set(saved.glob("step-*"))
        with Launch(command, *training(config, steps)) as started:
            # Starting takes longer than a step: wait for a sign of life first.
            while set(saved.glob("step-*")) == before and started.running:
                time.sleep(0.001)
            time.sleep(chance.random() * 0.3)
            started.send(signal.SIGKILL)
    done = launch(command, *training(config, steps))
    assert done.returncode == 0, done.stderr
    assert losses(run) == losses(whole)
    assert weights(run) == weights(whole)
    assert not list(saved.glob("*.tmp"))


def wait_for_checkpoint(run: Path, running: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not list((run / "checkpoints").glob("step-????????")):
        assert running() and time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_saves_and_tells_how_to_resume(tmp_path):
    config = write_experiment(tmp_path, **{"checkpoint.every": 5})
    run = tmp_path / "run"
    with Launch(command, *training(config, "training.steps=100000")) as started:
        wait_for_checkpoint(run, lambda: started.running)
        started.send(signal.SIGTERM)
        done = started.finish()
    assert done.returncode == 75
    assert "stopped at step" in done.stderr and "Resume:" in done.stderr
    assert str(config) in done.stderr and "Traceback" not in done.stderr
    newest = sorted((run / "checkpoints").glob("step-????????"))[-1]
    step = int(newest.name.removeprefix("step-"))
    resumed = launch(command, *training(config, f"training.steps={step + 1}"))
    assert resumed.returncode == 0 and f"resumed from {newest}" in resumed.stderr


def launched(config: Path, run: Path) -> subprocess.Popen:
    """An endless run under `accelerate launch`, in a session of its own, after its first save."""
    launcher = [str(Path(sys.executable).with_name("accelerate")), "launch", "--num_processes", "1"]
    process = subprocess.Popen(
        [*launcher, ROOT / "train.py", "--config", config, "training.steps=100000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
        start_new_session=True,
    )
    wait_for_checkpoint(run, lambda: process.poll() is None)
    return process


def wait_until_stopped(run: Path) -> None:
    deadline = time.monotonic() + 300
    while '"stopped"' not in (run / "status.json").read_text():
        assert time.monotonic() < deadline, (run / "status.json").read_text()
        time.sleep(0.1)


@pytest.mark.slow
def test_killing_the_launcher_still_saves(tmp_path):
    """`accelerate launch` dies without telling its child; the child notices."""
    config = write_experiment(tmp_path, **{"checkpoint.every": 5})
    process = launched(config, tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    process.wait()
    wait_until_stopped(tmp_path / "run")


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_everybody_and_still_saves(tmp_path):
    """The terminal sends it to launcher and child; then the launcher's death is a signal too."""
    # Long steps: the second signal comes while the first one's step is still running.
    changes = {"training.batch_size": 1000, "checkpoint.every": 1, "model.hidden_size": 16}
    process = launched(write_experiment(tmp_path, **changes), tmp_path / "run")
    os.killpg(process.pid, signal.SIGINT)
    process.wait()
    wait_until_stopped(tmp_path / "run")
