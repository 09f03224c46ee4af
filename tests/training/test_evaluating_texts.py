"""A run on captions is evaluated with captions, while it trains and by the command."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny import IMAGES, write_experiment
from typer.testing import CliRunner

from gensynth.cli import app
from gensynth.evaluation import drawn
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

CAPTIONS = [f"thing {number}, {'plain' if number % 2 else 'grey'}" for number in range(IMAGES)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one step and the captions of the pictures that it drew to be evaluated."""
    folder = tmp_path_factory.mktemp("texts")
    path = write_experiment(folder)
    table = pq.read_table(folder / "images.parquet").drop_columns("label")
    table = table.append_column("caption", pa.array([[text, "x"] for text in CAPTIONS]))
    pq.write_table(table.replace_schema_metadata(None), folder / "images.parquet")
    tree = yaml.safe_load(path.read_text())
    tree["condition"] = {"kind": "text", "encoder": "small", "length": 8, "width": 16}
    tree["condition"] |= {"layers": 1, "heads": 2}
    tree["evaluation"] = {"every": 1, "num": 5, "reference": str(folder / "images.parquet")}
    path.write_text(yaml.safe_dump(tree))
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENSYNTH_CACHE", str(folder / "cache"))
        usual = drawn.DrawnImages.__init__

        def noted(self, *arguments, **keywords):
            usual(self, *arguments, **keywords)
            asked.extend(self.texts)

        patch.setattr(drawn.DrawnImages, "__init__", noted)
        run = train(load_experiment(path, ["training.steps=1"]))
        yield folder, run, asked


def test_an_evaluation_of_a_run_draws_the_captions_of_its_reference(trained):
    _, run, asked = trained
    assert asked[:5] == CAPTIONS[:5]
    [line] = map(json.loads, (run / "evaluations.jsonl").read_text().splitlines())
    assert line["num_samples"] == 5


def test_the_command_draws_one_picture_for_each_caption(trained):
    folder, run, _ = trained
    images = str(folder / "images.parquet")
    order = ["evaluate", "--model", str(run), "--reference", images, "--trained-on", images]
    metrics = "frechet,retrieval,copies"
    result = CliRunner().invoke(app, [*order, "--metrics", metrics, "--steps", "1", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    found = {score["key"]: score for score in report["scores"]}
    assert report["samples"]["count"] == IMAGES
    assert (
        found["retrieval_1"]["details"] | {"among": IMAGES, "chance": 1 / IMAGES}
        == (found["retrieval_1"]["details"])
    )
    assert {"retrieval_5", "style_1", "copies_features", "copies_pixels"} <= found.keys()
    assert report["beside"]["different_prompts"] == IMAGES
    assert any("images of the reference are training pictures" in t for t in report["warnings"])
