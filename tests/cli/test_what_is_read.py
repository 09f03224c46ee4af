"""Commands say first what they read, on stderr."""

import json

import pytest
import yaml

LEFT_OUT = "Left out: other files: 1 (cat/notes.txt)"


@pytest.fixture
def folder(tmp_path, numbered):
    """Two classes of three pictures, a note among them."""
    for number in range(6):
        file = tmp_path / "set" / ("cat", "dog")[number % 2] / f"{number}.TIF"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(numbered(40 * number))
    (tmp_path / "set" / "cat" / "notes.txt").write_text("x")
    return tmp_path / "set"


def test_evaluation_says_it_of_both_sides(command, folder):
    arguments = ("evaluate", folder, "--reference", folder, "--metrics", "kid", "--json")
    done = command(*arguments, "--class-level", 0)
    assert done.returncode == 0, done.stderr
    samples, reference, *_ = done.stderr.splitlines()
    assert samples.startswith(f"samples: 6 pictures without classes. {LEFT_OUT}")
    assert reference.startswith(f"reference: 6 pictures without classes. {LEFT_OUT}")
    assert json.loads(done.stdout)["schema"] == 2


@pytest.fixture
def config(folder, tmp_path):
    """An experiment on that folder."""
    tree = {
        "output": str(tmp_path / "run"),
        "data": {"source": "imagefolder", "path": str(folder), "size": 8, "workers": 0},
        "autoencoder": {"kind": "none"},
        "model": {"name": "DiCo-nano", "hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
        "objective": {"name": "flow"},
        "training": {"steps": 1, "batch_size": 2},
    }
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_encoding_says_it_and_keeps_the_names(command, config, tmp_path):
    done = command("encode", "--config", config, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()[0]
    assert said == f"data: 6 pictures in 2 classes (cat, dog). {LEFT_OUT}."
    from gensynth.config import Data
    from gensynth.data.sources import open_source

    encoded = open_source(Data(source="encoded", path=str(tmp_path / "out"), size=8))
    assert encoded.summary == "6 pictures in 2 classes (cat, dog)."


def test_a_stray_picture_ends_training_with_its_name(command, config, folder, numbered):
    (folder / "cover.png").write_bytes(numbered(1))
    done = command("train", "--config", config)
    assert done.returncode == 3
    assert "cover.png" in done.stderr and "data.class_level" in done.stderr
