"""Two processes train the run that one would train."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import losses, write_experiment

import gensynth
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

ROOT = Path(__file__).parents[2]


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Six steps by two processes; returns the experiment file."""
    config = write_experiment(tmp_path_factory.mktemp("two"))
    done = torchrun(str(ROOT / "train.py"), "--config", str(config), "training.steps=6")
    assert done.returncode == 0, done.stderr
    return config


def test_same_losses_as_one_process(two, tmp_path):
    one = train(load_experiment(write_experiment(tmp_path), ["training.steps=6"]))
    together = losses(two.parent / "run")
    assert together.keys() == losses(one).keys()
    for step, loss in losses(one).items():
        assert together[step] == pytest.approx(loss, rel=1e-5)


def test_the_model_of_two_processes_loads(two):
    pictures = gensynth.load(two.parent / "run")(labels=[1], seeds=[0])
    assert pictures[0].size == (32, 32)


def test_one_process_continues_what_two_began(two, tmp_path):
    whole = train(load_experiment(write_experiment(tmp_path)))
    run = train(load_experiment(two))  # twelve steps, from step 6
    for step, loss in losses(whole).items():
        assert losses(run)[step] == pytest.approx(loss, rel=1e-4)


def test_batch_that_cannot_be_split_is_refused(tmp_path):
    config = write_experiment(tmp_path, **{"training.batch_size": 7})
    done = torchrun(str(ROOT / "train.py"), "--config", str(config))
    assert done.returncode != 0
    assert "cannot be split over 2 processes" in done.stderr


def test_two_processes_sample_the_pictures_of_one(two, tmp_path):
    model = str(two.parent / "run")
    job = ["sample", "--model", model, "-n", "7", "--labels", "0-9", "--out"]
    done = torchrun("-m", "gensynth", *job, str(tmp_path / "two"), "--batch-size", "3")
    assert done.returncode == 0, done.stderr
    subprocess.run(
        [sys.executable, "-m", "gensynth", *job, str(tmp_path / "one"), "--batch-size", "16"],
        check=True,
    )
    names = sorted(path.name for path in (tmp_path / "one").glob("0*.png"))
    assert len(names) == 7
    assert names == sorted(path.name for path in (tmp_path / "two").glob("0*.png"))
    for name in names:
        a, b = (np.asarray(Image.open(tmp_path / n / name)).astype(int) for n in ("one", "two"))
        assert np.abs(a - b).max() <= 1
