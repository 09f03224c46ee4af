"""What a run's pictures are of: classes, or nothing in particular."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from gensynth.config import Experiment
from gensynth.data.sources import open_source
from gensynth.errors import UsageError
from gensynth.experiments.assemble import assemble
from gensynth.experiments.read import load_experiment
from gensynth.pipelines.loading import load
from gensynth.pipelines.unconditional import UnconditionalPipeline
from gensynth.sampling.outputs import read_recipe
from gensynth.training.loop import train

TREE = {
    "data": {"channels": 1, "fit": "pad", "workers": 0},
    "autoencoder": {"patch": 2},
    "model": {"name": "DiCo-nano", "hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
    "condition": {"kind": "none"},
    "objective": {"name": "flow"},
    "training": {"steps": 2, "batch_size": 4, "log_every": 1},
    "sampling": {"steps": 2, "guidance": 1.0, "every": 0},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("free")
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**TREE, "output": str(folder / "run")}))
    return path


@pytest.mark.slow
def test_a_run_without_a_condition_draws(config, tmp_path):
    run = train(load_experiment(config))
    pipeline = load(run, device="cpu")
    assert type(pipeline) is UnconditionalPipeline
    assert pipeline.model.config.num_classes == 0 and pipeline.condition.every() == [None]
    assert not (run / "model" / "labels.json").exists()
    command = [sys.executable, "-m", "gensynth", "sample", "--model", str(run), "--num", "3"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True)
    assert done.returncode == 0, done.stderr
    for seed, picture in enumerate(pipeline([0, 1, 2])):
        path = tmp_path / "out" / f"00000{seed}.png"
        recipe = read_recipe(path)
        assert recipe["seed"] == seed and not {"label", "class"} & recipe.keys()
        with Image.open(path) as drawn:
            apart = torch.tensor([*drawn.tobytes()]) - torch.tensor([*picture.tobytes()])
        assert apart.abs().max() <= 1
    done = subprocess.run([*command, "--labels", "Bag", "--out", "x"], capture_output=True)
    assert done.returncode == 2 and b"draws without a class" in done.stderr
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("condition.kind=clases", ["'clases'", "Did you mean 'classes'", "Known: classes, none"]),
        ("condition.knid=none", ["'condition.knid'", "Did you mean 'condition.kind'"]),
        ("sampling.guidance=2", ["condition.kind none", "sampling.guidance=1"]),
    ],
)
def test_conditions_that_are_refused(config, override, words):
    with pytest.raises(UsageError) as caught:
        load_experiment(config, [override])
    assert all(word in str(caught.value) for word in words)


def test_classes_unless_something_else_is_asked_for(config):
    tree = yaml.safe_load(config.read_text())
    del tree["condition"]
    plain = Experiment.model_validate(tree)
    assert plain.condition.kind == "classes"
    assert plain == Experiment.model_validate({**tree, "condition": {"kind": "classes"}})


@pytest.mark.parametrize("training", [True, False])
def test_reading_the_shapes_of_a_model_leaves_it_as_it_was(config, training):
    from gensynth.experiments.regularization import check_regularizers

    term = "regularizers=[{name: dispersive, block: levels.0.0, group_size: 2}]"
    experiment = load_experiment(config, [term])
    parts = assemble(experiment, open_source(experiment.data).classes, torch.device("cpu"))
    model = parts.model.train(training)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    hooks = [len(part._forward_hooks) for part in model.modules()]
    shapes = check_regularizers(experiment, model)
    assert shapes["levels.0.0"][1:] == (8, 16, 16)
    assert [part.training for part in model.modules()] == [training] * len(hooks)
    assert [len(part._forward_hooks) for part in model.modules()] == hooks
    after = model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert {weight.device.type for weight in after.values()} == {"cpu"}
