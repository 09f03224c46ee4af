"""One run at a time in an output folder, and what a killed one left there."""

import os
import signal
import time

import pytest
from apart import from_folders
from launching import Launch, command, launch, training
from tiny import losses, write_experiment

from gensynth.errors import RefusedError
from gensynth.experiments.read import load_experiment
from gensynth.system.locks import claim
from gensynth.training.loop import train
from gensynth.training.session import output

ENDLESS = ("training.steps=100000", "checkpoint.every=100000")


def content(folder):
    """Names, sizes and times of everything in a folder but what a running run appends to."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.suffix != ".jsonl" and "tensorboard" not in str(path)
    }


def wait_for_steps(run, started):
    deadline = time.monotonic() + 120
    while not (run / "log.jsonl").is_file() or not losses(run):
        assert started.running and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_run_is_refused_and_touches_nothing(processes, tmp_path):
    config = write_experiment(tmp_path)
    run = tmp_path / "run"
    with Launch(command, *training(config, *ENDLESS)) as first:
        wait_for_steps(run, first)
        before, pid = content(run), first.processes[0].pid
        other = training(config, *ENDLESS, "optimizer.lr=0.5")
        second = launch(command, *other, processes=processes)
        assert content(run) == before
        assert second.returncode == 4
        assert second.stderr.count(f"run is being written by process {pid} on") >= 1
        assert "output=DIR" in second.stderr and "Traceback" not in second.stderr
        first.send(signal.SIGKILL)
    # the file of the lock is still there, the lock is not
    assert (run / output.LOCK).is_file()
    done = launch(command, *training(config, "training.steps=1"))
    assert done.returncode == 0, done.stderr
    assert not (run / output.LOCK).exists()


def test_two_processes_hold_it_together(tmp_path):
    config = write_experiment(tmp_path)
    with Launch(command, *training(config, *ENDLESS), processes=2) as first:
        wait_for_steps(tmp_path / "run", first)
        second = launch(command, *training(config, *ENDLESS))
    assert second.returncode == 4
    assert f"process {first.processes[0].pid} on" in second.stderr


def test_the_folder_is_free_after_every_end(tmp_path):
    config = write_experiment(tmp_path)
    train(load_experiment(config, ["training.steps=1"]))
    with pytest.raises(RefusedError, match="other settings"):
        train(load_experiment(config, ["seed=5"]))
    claim(tmp_path / "run" / output.LOCK, tmp_path / "run", "").release()


def test_processes_with_folders_of_their_own_are_refused(tmp_path):
    """As where a disk is mounted on one machine only: a relative path, from two places."""
    config = write_experiment(tmp_path)
    done = launch(from_folders, str(config), "output=here", processes=2)
    assert done.returncode == 6
    assert "is not that of process 1" in done.stderr
    assert "a disk that all processes share" in done.stderr


def test_what_a_killed_run_left_is_cleaned_at_the_next_start(tmp_path):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, ["training.steps=4"]))
    before = {str(path.relative_to(run)) for path in run.rglob("*")}
    (run / "checkpoints" / "step-00000005.tmp" / "state").mkdir(parents=True)
    (run / ".status.json.123.tmp").write_text("{")
    (run / ".model.123.tmp" / "model").mkdir(parents=True)
    (run / "model").rename(run / "model.old")  # killed between the two names
    (run / "notes.txt").write_text("mine")
    train(load_experiment(config, ["training.steps=4"]))
    after = {
        str(path.relative_to(run)) for path in run.rglob("*") if "tensorboard" not in str(path)
    }
    assert after == {name for name in before if "tensorboard" not in name} | {"notes.txt"}


def test_best_comes_back_if_the_exchange_was_cut_off(tmp_path):
    (tmp_path / "best.old").mkdir()
    (tmp_path / "best.old" / "evaluation.json").write_text("{}")
    output.tidy(tmp_path)
    assert (tmp_path / "best" / "evaluation.json").read_text() == "{}"
    (tmp_path / "best.old").mkdir()
    output.tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_temporary_names_are_of_the_process(tmp_path):
    (tmp_path / ".model.1.tmp").mkdir()  # another one's
    with output.replacement(tmp_path / "model") as folder:
        assert folder.name == f".model.{os.getpid()}.tmp"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.1.tmp", "model"]
