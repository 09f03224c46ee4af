"""Data or processes that fail while others wait: all end, in words, with the state saved."""

import json
import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apart import from_folders, stopping_before_its_gradients, with_workers
from launching import Launch, command, launch, training
from test_one_run_per_folder import ENDLESS, wait_for_steps
from tiny import losses, weights, write_experiment

from gensynth.errors import ProcessLost
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train
from gensynth.training.session.together import losing


def status(run):
    return json.loads((run / "status.json").read_text())


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").glob("step-????????"))


def ended(started, seconds=60):
    """The exit codes, without anybody else's help as torchrun's agent would give it."""
    deadline = time.monotonic() + seconds
    while started.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [process.exitcode for process in started.processes]


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_costs_no_step(number, tmp_path):
    config = write_experiment(tmp_path, **{"data.workers": 1})
    run = tmp_path / "run"
    with Launch(with_workers, *training(config, *ENDLESS, "data.timeout=2")) as started:
        wait_for_steps(run, started)
        for child in children(started.processes[0].pid):
            os.kill(child, number)
        done = started.finish(60)
    killed = number == signal.SIGKILL
    assert done.returncode == (5 if killed else 3), done.stderr
    assert ("was killed" if killed else "gave nothing for 2 seconds") in done.stderr
    assert "data.workers=0" in done.stderr and "the same command resumes" in done.stderr
    assert status(run)["state"] == "failed"
    newest = int(checkpoints(run)[-1].removeprefix("step-"))
    assert newest == status(run)["step"] == max(losses(run))
    # the advice works, and nothing was lost
    steps = f"training.steps={newest + 1}"
    resumed = train(load_experiment(config, [steps, "data.workers=0", "checkpoint.every=100000"]))
    whole = write_experiment(tmp_path / "whole")
    undisturbed = train(load_experiment(whole, [steps, "checkpoint.every=100000"]))
    assert losses(resumed) == losses(undisturbed) and weights(resumed) == weights(undisturbed)


def test_a_run_that_waits_for_data_hears_that_it_should_stop(tmp_path):
    config = write_experiment(tmp_path, **{"data.workers": 1})
    with Launch(with_workers, *training(config, *ENDLESS)) as started:
        wait_for_steps(tmp_path / "run", started)
        for child in children(started.processes[0].pid):
            os.kill(child, signal.SIGSTOP)
        time.sleep(0.5)
        started.send(signal.SIGTERM)
        done = started.finish(30)
    assert done.returncode == 75 and "stopped at step" in done.stderr
    assert len(checkpoints(tmp_path / "run")) == 1
    assert status(tmp_path / "run")["state"] == "stopped"


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_was_killed_ends_the_others(victim, tmp_path):
    config = write_experiment(tmp_path)
    run = tmp_path / "run"
    with Launch(command, *training(config, *ENDLESS), processes=2) as started:
        wait_for_steps(run, started)
        started.processes[victim].kill()
        codes = ended(started)
        said = "".join(started._said())
    assert codes[victim] == -9 and codes[1 - victim] == 75, said
    assert "another process of this launch ended" in said and "data.workers=0" in said
    assert not any(word in said.lower() for word in ("please report", "gloo", "peer"))
    assert status(run)["state"] == "failed"
    if victim == 1:  # the main process is left, and saves
        assert checkpoints(run) == [f"step-{status(run)['step']:08d}"]
        assert "the same command resumes" in said
        train(load_experiment(config, [f"training.steps={status(run)['step'] + 1}"]))


def test_a_process_that_stopped_in_an_exchange_of_gradients_ends_the_others(tmp_path):
    config, run = write_experiment(tmp_path), tmp_path / "run"
    arguments = training(config, "training.steps=4", "training.timeout=2")
    with Launch(stopping_before_its_gradients, *arguments, processes=2) as started:
        started.processes[0].join(60)
        said = "".join(started._said())
        assert started.processes[0].exitcode == 75, said
        assert started.processes[1].is_alive()
    assert "another process of this launch did not answer for 2 seconds" in said
    assert "training.timeout=SECONDS allows more" in said and "gloo" not in said.lower()
    assert "Timed out waiting" not in said
    # what was saved is sound, and the advice can be followed
    assert checkpoints(run) == ["step-00000002"] and status(run)["state"] == "failed"
    whole = write_experiment(tmp_path / "whole")
    resumed = train(load_experiment(config, ["training.steps=4", "training.timeout=900"]))
    undisturbed = train(load_experiment(whole, ["training.steps=4"]))
    # one process adds up the gradients of a batch in another order than two
    assert losses(resumed) == pytest.approx(losses(undisturbed), rel=1e-5)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
            "[127.0.0.1]:4822",
            "ended, or the connection",
        ),
        ("Broken pipe", "ended, or the connection"),
        ("NCCL error in: NCCLUtils.hpp:268, remote process exited", "ended, or the connection"),
        ("Timed out waiting 600000ms for recv operation to complete", "did not answer in time"),
        ("wait timeout after 600000ms, keys: /default_pg/0//cuda", "did not answer in time"),
    ],
)
def test_a_lost_process_is_told_in_our_words(said, words):
    with pytest.raises(ProcessLost) as caught, losing():
        raise RuntimeError(said)
    assert words in str(caught.value) and said not in str(caught.value)
    assert str(caught.value.__cause__) == said


def test_the_data_of_one_process_fail_for_all(tmp_path):
    """Process 1 has no images in its place."""
    config = write_experiment(tmp_path)
    (tmp_path / "rank-0").mkdir()
    (tmp_path / "images.parquet").rename(tmp_path / "rank-0" / "here.parquet")
    given = ("data.path=here.parquet", "training.steps=2")
    done = launch(from_folders, str(config), *given, processes=2)
    assert done.returncode == 3
    assert "process 1: there are no parquet files at here.parquet" in done.stderr
    assert status(tmp_path / "run")["state"] == "failed"


@pytest.mark.parametrize("change", ["fewer", "others"])
def test_processes_that_find_other_data_are_refused(change, tmp_path):
    config = write_experiment(tmp_path)
    table = pq.read_table(tmp_path / "images.parquet")
    rows = range(15) if change == "fewer" else reversed(range(20))
    for rank, chosen in enumerate([range(20), rows]):
        (tmp_path / f"rank-{rank}").mkdir()
        taken = table.take(list(chosen))
        pq.write_table(pa.table(taken, schema=table.schema), tmp_path / f"rank-{rank}/here.parquet")
    given = ("data.path=here.parquet", "training.steps=2")
    done = launch(from_folders, str(config), *given, processes=2)
    assert done.returncode == 3
    words = "15 images instead of 20" if change == "fewer" else "as many images, but others"
    assert "finds other data at here.parquet than process 0 on" in done.stderr
    assert words in done.stderr


def test_a_mistake_of_ours_does_not_leave_a_run_running(tmp_path, monkeypatch):
    config = write_experiment(tmp_path)

    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("gensynth.training.run.Run.one_step", broken)
    with pytest.raises(ZeroDivisionError):
        train(load_experiment(config))
    assert status(tmp_path / "run")["state"] == "failed"
    assert "ZeroDivisionError" in status(tmp_path / "run")["message"]
