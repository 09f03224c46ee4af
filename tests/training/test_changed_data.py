"""A run that goes on says when its data are not those with which it was saved."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import write_experiment

from gensynth.data.sources import BUNDLED
from gensynth.errors import RefusedError
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

FIRST, THEN = ["training.steps=1"], ["training.steps=2"]


def other_data(tmp_path, first, count):
    table = pq.read_table(BUNDLED / "train.parquet").slice(first, count)
    pq.write_table(pa.table(table, schema=table.schema), tmp_path / "images.parquet")


@pytest.mark.parametrize(
    ("first", "count", "words"),
    [
        (0, 23, "the data were 20 pictures, now 23, taken in another order: from here on"),
        (0, 19, "the data were 20 pictures, now 19, taken in another order: from here on"),
        (5, 20, "the data were 20 pictures, now as many, but others: from here on"),
    ],
)
def test_other_data_are_said_and_kept(tmp_path, capsys, first, count, words):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, FIRST))
    other_data(tmp_path, first, count)
    train(load_experiment(config, THEN))
    said = capsys.readouterr()
    assert words in said.out + said.err and "output=DIR" in said.out + said.err
    noted = f"# after step 1: {words}"
    assert noted in (run / "experiment.yaml").read_text()
    train(load_experiment(config, ["training.steps=3"]))  # of which nothing is new
    said = capsys.readouterr()
    assert "the data were" not in said.out + said.err
    assert (run / "experiment.yaml").read_text().count("the data were") == 1


@pytest.mark.parametrize("old", [True, False])
def test_the_same_data_elsewhere_are_no_others(tmp_path, capsys, old):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, FIRST))
    if old:  # as an earlier version saved it
        (place,) = run.glob("checkpoints/*/training.json")
        saved = json.loads(place.read_text())
        assert saved.pop("data")["images"] == 20
        text = json.dumps(saved) + "\n"
        place.write_text(text + " " * (place.stat().st_size - len(text)))
        (place.parent / "manifest.json").write_text(manifest_of(place))
        other_data(tmp_path, 0, 21)
    else:
        other_data(tmp_path, 0, 20)  # written anew: other times, the same pictures
    train(load_experiment(config, THEN))
    said = capsys.readouterr()
    assert "resumed from" in said.out + said.err and "the data were" not in said.out + said.err


def manifest_of(place):
    from gensynth.training.session.checkpoint import _sha256

    manifest = json.loads((place.parent / "manifest.json").read_text())
    manifest["files"][place.name] = [place.stat().st_size, _sha256(place)]
    return json.dumps(manifest)


def test_pictures_and_classes_added_to_a_folder(tmp_path, capsys):
    def draw(name, number):
        (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")

    for number in range(10):
        draw("ab"[number % 2], number)
    changes = {"data.source": "imagefolder", "data.path": str(tmp_path / "pictures")}
    config = write_experiment(tmp_path, **changes)
    train(load_experiment(config, FIRST))
    draw("a", 11)
    train(load_experiment(config, THEN))
    said = capsys.readouterr()
    assert "the data were 10 pictures, now 11" in said.out + said.err
    draw("c", 12)
    with pytest.raises(RefusedError, match=r"began with 2 classes .* now have 3 .*output=DIR"):
        train(load_experiment(config, ["training.steps=3"]))
