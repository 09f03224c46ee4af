"""Signals that a run hears: it saves and ends as on SIGTERM."""

import os
import signal

import pytest
from launching import Launch, command, training
from test_one_run_per_folder import ENDLESS, wait_for_steps
from tiny import write_experiment

from gensynth.training.session.faults import StopRequest


@pytest.mark.parametrize(
    ("number", "processes"),
    [
        *[(signal.SIGHUP, 1), (signal.SIGUSR1, 2), (signal.SIGUSR2, 1)],
        pytest.param(signal.SIGHUP, 2, marks=pytest.mark.slow),
    ],
)
def test_state_is_saved(number, processes, tmp_path):
    config = write_experiment(tmp_path)
    run = tmp_path / "run"
    with Launch(command, *training(config, *ENDLESS), processes=processes) as started:
        wait_for_steps(run, started)
        started.send(number)
        done = started.finish(60)
    assert done.returncode == 75, done.stderr
    assert f"({number.name})" in done.stderr and "Resume:" in done.stderr
    assert len(list((run / "checkpoints").glob("step-????????"))) == 1
    assert '"stopped"' in (run / "status.json").read_text()


def test_one_of_two_processes_is_enough(tmp_path):
    config = write_experiment(tmp_path)
    with Launch(command, *training(config, *ENDLESS), processes=2) as started:
        wait_for_steps(tmp_path / "run", started)
        os.kill(started.processes[1].pid, signal.SIGUSR1)
        done = started.finish(60)
    assert done.returncode == 75
    assert "(another process)" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_what_is_ignored_stays_ignored(number):
    """As nohup leaves it."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        stop = StopRequest()
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGUSR1)
        stop.release()
        assert signal.getsignal(number) is signal.SIG_IGN
        assert stop.name == "SIGUSR1"
    finally:
        signal.signal(number, before)
