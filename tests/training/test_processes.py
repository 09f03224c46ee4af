"""Two processes train the run that one would train."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from launching import ROOT, command, launch, training
from PIL import Image
from tiny import losses, write_experiment

import gensynth
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Six steps by two processes; returns the experiment file."""
    config = write_experiment(tmp_path_factory.mktemp("two"))
    done = launch(command, *training(config, "training.steps=6"), processes=2)
    assert done.returncode == 0, done.stderr
    return config


def test_same_losses_as_one_process(two, tmp_path):
    one = train(load_experiment(write_experiment(tmp_path), ["training.steps=6"]))
    together = losses(two.parent / "run")
    assert together.keys() == losses(one).keys()
    for step, loss in losses(one).items():
        assert together[step] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_torchrun_starts_them_the_same_way(two, tmp_path):
    config = write_experiment(tmp_path)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *torchrun, ROOT / "train.py", "--config", config, "training.steps=6"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == losses(two.parent / "run")


def test_the_model_of_two_processes_loads(two):
    pictures = gensynth.load(two.parent / "run")(labels=[1], seeds=[0])
    assert pictures[0].size == (32, 32)


def test_one_process_continues_what_two_began(two, tmp_path):
    whole = train(load_experiment(write_experiment(tmp_path)))
    shutil.copytree(two.parent / "run", tmp_path / "two")
    run = train(load_experiment(two, [f"output='{tmp_path / 'two'}'"]))  # twelve steps, from step 6
    for step, loss in losses(whole).items():
        assert losses(run)[step] == pytest.approx(loss, rel=1e-4)


def test_batch_that_cannot_be_split_is_refused(tmp_path):
    config = write_experiment(tmp_path, **{"training.batch_size": 7})
    done = launch(command, *training(config), processes=2)
    assert done.returncode != 0
    assert "cannot be split over 2 processes" in done.stderr


def test_two_processes_sample_the_pictures_of_one(two, tmp_path):
    model = str(two.parent / "run")
    job = ["sample", "--model", model, "-n", "7", "--labels", "0-9", "--out"]
    for name, processes, batch in (("two", 2, "3"), ("one", 1, "16")):
        folder = str(tmp_path / name)
        done = launch(command, *job, folder, "--batch-size", batch, processes=processes)
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "one").glob("0*.png"))
    assert len(names) == 7
    assert names == sorted(path.name for path in (tmp_path / "two").glob("0*.png"))
    for name in names:
        a, b = (np.asarray(Image.open(tmp_path / n / name)).astype(int) for n in ("one", "two"))
        assert np.abs(a - b).max() <= 1
