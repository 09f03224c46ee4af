"""A run that was stopped, however it was stopped, ends as if it had not been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import losses, weights, write_experiment

from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

ROOT = Path(__file__).parents[2]


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


def command(config: Path, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), "--config", str(config), *overrides]


def test_killed_at_random_moments(tmp_path):
    """kill -9 while starting, stepping or saving; the last of several runs finishes."""
    steps = "training.steps=40"
    whole = train(load_experiment(write_experiment(tmp_path / "whole"), [steps]))
    config = write_experiment(tmp_path / "killed", **{"checkpoint.every": 2})
    run = tmp_path / "killed" / "run"
    saved = run / "checkpoints"
    chance = random.Random()
    for _ in range(3):
        process = subprocess.Popen(
            command(config, steps), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = set(saved.glob("step-*"))
        # Starting takes seconds and a step milliseconds: wait for a sign of life first.
        while set(saved.glob("step-*")) == before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(config, steps), check=True, stderr=subprocess.DEVNULL)
    assert losses(run) == losses(whole)
    assert weights(run) == weights(whole)
    assert not list(saved.glob("*.tmp"))


def wait_for_checkpoint(run: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not list((run / "checkpoints").glob("step-????????")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_saves_and_tells_how_to_resume(tmp_path):
    config = write_experiment(tmp_path, **{"checkpoint.every": 5})
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(config, "training.steps=100000"), stderr=subprocess.PIPE, text=True
    )
    wait_for_checkpoint(run, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped at step" in errors and "Resume:" in errors and str(config) in errors
    assert "Traceback" not in errors
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    step = int(newest.name.removeprefix("step-"))
    resumed = subprocess.run(
        command(config, f"training.steps={step + 1}"), stderr=subprocess.PIPE, text=True
    )
    assert resumed.returncode == 0 and f"resumed from {newest}" in resumed.stderr


def launched(config: Path, run: Path) -> subprocess.Popen:
    """An endless run under `accelerate launch`, in a session of its own, after its first save."""
    launcher = [str(Path(sys.executable).with_name("accelerate")), "launch", "--num_processes", "1"]
    process = subprocess.Popen(
        [*launcher, *command(config, "training.steps=100000")[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
        start_new_session=True,
    )
    wait_for_checkpoint(run, process)
    return process


def wait_until_stopped(run: Path) -> None:
    deadline = time.monotonic() + 90
    while '"stopped"' not in (run / "status.json").read_text():
        assert time.monotonic() < deadline, (run / "status.json").read_text()
        time.sleep(0.1)


def test_killing_the_launcher_still_saves(tmp_path):
    """`accelerate launch` dies without telling its child; the child notices."""
    config = write_experiment(tmp_path, **{"checkpoint.every": 5})
    process = launched(config, tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    process.wait()
    wait_until_stopped(tmp_path / "run")


def test_ctrl_c_in_a_terminal_reaches_everybody_and_still_saves(tmp_path):
    """The terminal sends it to launcher and child; then the launcher's death is a signal too."""
    # Long steps: the second signal comes while the first one's step is still running.
    changes = {"training.batch_size": 1000, "checkpoint.every": 1, "model.hidden_size": 16}
    process = launched(write_experiment(tmp_path, **changes), tmp_path / "run")
    os.killpg(process.pid, signal.SIGINT)
    process.wait()
    wait_until_stopped(tmp_path / "run")
