"""One word of a run on captions changes its backbone, mixer, objective or encoder."""

import json
import math
import re
from pathlib import Path

import pytest
from shapes import SIDE, write_shapes
from tiny_clip import save_clip

from gensynth import load
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

RECIPE = """
output: {run}
data: {{source: parquet, path: {images}, size: 64, workers: 0}}
condition: {{kind: text, encoder: small, length: 8, {sizes}}}
autoencoder: {{kind: kl, path: taef2, latent_channels: 32}}
model: {{name: DiT-nano/2, mixer: softmax}}
objective: {{name: flow}}
training: {{steps: 2, batch_size: 4, log_every: 1}}
sampling: {{steps: 2}}
"""
SMALL = "width: 16, layers: 1, heads: 2, vocabulary: 300"  # what only `small` has


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("softmax", "linear", id="mixer linear"),
        pytest.param("softmax", "local", id="mixer local"),
        pytest.param("DiT-nano/2, mixer: softmax", "DiCo-nano", id="DiCo"),
        pytest.param("DiT-nano/2, mixer: softmax", "DiC-nano", id="DiC"),
        pytest.param("DiT-nano/2", "MDTv2-nano/2", id="MDTv2"),
        pytest.param("name: flow", "name: ddpm", id="ddpm"),
        pytest.param("encoder: small", "encoder: CLIP", id="frozen encoder"),
        pytest.param("name: flow", "name: flow", id="as it stands"),
    ],
)
def test_trains_and_draws(old, new, tmp_path):
    images = write_shapes(tmp_path) / "train.parquet"
    assert RECIPE.count(old) == 1
    text = RECIPE.replace(old, new).format(run=tmp_path / "run", images=images, sizes=SMALL)
    if new.endswith("CLIP"):
        save_clip(tmp_path / "clip", ["red disc, flat"])
        text = text.replace("CLIP", str(tmp_path / "clip"))
    (tmp_path / "run.yaml").write_text(text)
    run = train(load_experiment(tmp_path / "run.yaml"))
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 2 and all(map(math.isfinite, losses))

    pipeline = load(run)
    word = new.rpartition(" ")[2]
    model = type(pipeline.model).__name__
    changed = {model, model + "-nano", model + "-nano/2", pipeline.model.config.get("mixer")}
    changed |= {"ddpm"} if pipeline.config.prediction == "epsilon" else {"flow"}
    changed |= {"CLIP"} if pipeline.condition.frozen else set()
    assert word in changed, "the word did what it says"
    pictures = pipeline(["red disc, thin", "a word unseen"], seeds=[0, 0], guidance=2.0)
    assert [picture.size for picture in pictures] == [(SIDE, SIDE)] * 2
    assert all(low < high for low, high in pictures[0].getextrema())


def test_the_recipe_of_the_page_takes_each_word(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(recipe)
    table = {line.split("|")[1].strip(): line for line in page.splitlines() if line[:3] == "| `"}
    for key, given in (
        ("`model.name`", []),
        ("`model.mixer`, of DiT and MDTv2", ["model.name=DiT-nano/2"]),
        ("`objective.name`", []),
    ):
        words = re.findall("`([^`]+)`", table[key].split("|")[2].partition("(")[0])
        words = [word for word in words if word != "gensynth models"]
        assert len(words) > 1
        for word in words:
            name = key.split("`")[1]
            found = load_experiment(path, [*given, f"{name}={word}"])
            assert word in found.to_yaml()
    assert load_experiment(path).condition.encoder == "small"
