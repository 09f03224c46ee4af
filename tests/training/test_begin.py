"""Runs that begin with the weights of a finished model."""

import shutil

import pytest
import torch
from launching import command, launch, training
from safetensors.torch import load_file
from tiny import losses, write_experiment

import gensynth
from gensynth.conditions import Classes, Nothing
from gensynth.errors import InputError, UsageError
from gensynth.experiments.assemble import assemble
from gensynth.experiments.begin import begin_from
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

NAMES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat"]
NAMES += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of four steps to begin from."""
    config = write_experiment(tmp_path_factory.mktemp("first"))
    return train(load_experiment(config, ["training.steps=4"]))


def fresh(tmp_path, classes, *overrides):
    """Model and condition of a new run with these classes, and its weights."""
    experiment = load_experiment(write_experiment(tmp_path), list(overrides))
    parts = assemble(experiment, classes, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in parts.model.state_dict().items()}
    return parts, before


def test_rows_are_kept_by_name_and_the_rest_drawn_anew(first, tmp_path):
    parts, before = fresh(tmp_path, ["Hat", "Bag", "Glove", "Coat"])
    lines = begin_from(str(first), parts.model, parts.condition)
    there = gensynth.load(first, device="cpu").model.state_dict()
    for name, tensor in parts.model.state_dict().items():
        if not name.startswith("class_embedders."):
            assert torch.equal(tensor, there[name]), name
            continue
        assert torch.equal(tensor[1], there[name][NAMES.index("Bag")])
        assert torch.equal(tensor[3], there[name][NAMES.index("Coat")])
        assert torch.equal(tensor[4], there[name][10])  # no class
        assert torch.equal(tensor[0], before[name][0]) and torch.equal(tensor[2], before[name][2])
    assert lines[1:] == [
        'class table: 2 of 4 classes kept by name, with the row for "no class" (Bag, Coat)',
        "class table: 2 classes drawn anew (Hat, Glove)",
    ]


def test_as_many_classes_in_another_order(first, tmp_path):
    """The table fits by its shape, and still is filled by name."""
    parts, _ = fresh(tmp_path, NAMES[::-1])
    begin_from(str(first), parts.model, parts.condition)
    name = "class_embedders.0.weight"
    there = gensynth.load(first, device="cpu").model.state_dict()[name]
    assert torch.equal(parts.model.state_dict()[name], there[[*range(9, -1, -1), 10]])


def test_another_input_keeps_all_but_the_ends(first, tmp_path):
    parts, before = fresh(tmp_path, NAMES, "autoencoder.patch=1")
    lines = begin_from(str(first), parts.model, parts.condition)
    assert torch.equal(parts.model.state_dict()["stem.weight"], before["stem.weight"])
    assert lines[-1].startswith("drawn anew, of another shape: 3 tensors (stem.weight [8, 1, 3, 3]")


def test_nothing_fits(first, tmp_path):
    parts, _ = fresh(tmp_path, NAMES, "model.hidden_size=16")
    with pytest.raises(UsageError, match=r"hidden_size is 8 there and 16 here"):
        begin_from(str(first), parts.model, parts.condition)


def test_no_such_model_is_refused_before_the_data_are_read(tmp_path):
    config = write_experiment(tmp_path)
    (tmp_path / "images.parquet").unlink()
    with pytest.raises(InputError, match="there is no model"):
        train(load_experiment(config, ["init_from=./nowhere"]))


def test_a_run_trains_from_there_and_resumes_without_it(first, tmp_path, capsys):
    beginning = tmp_path / "beginning"
    shutil.copytree(first, beginning)
    config = write_experiment(tmp_path / "x")
    given = [f"init_from={beginning}", "optimizer.lr=1e-30", "ema={decay: 0.0}"]
    run = train(load_experiment(config, [*given, "training.steps=1"]))
    assert "tensors taken over" in capsys.readouterr().err
    file = "model/model/diffusion_pytorch_model.safetensors"
    ours, theirs = load_file(run / file), load_file(first / file)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    shutil.rmtree(beginning)
    train(load_experiment(config, [*given, "training.steps=2"]))
    assert "taken over" not in capsys.readouterr().err


def test_two_processes_begin_with_the_same_weights(first, tmp_path):
    one = train(load_experiment(write_experiment(tmp_path / "1"), given := [f"init_from={first}"]))
    config = write_experiment(tmp_path / "2")
    done = launch(command, *training(config, *given), processes=2)
    assert done.returncode == 0, done.stderr
    for step, loss in losses(one).items():
        assert losses(tmp_path / "2" / "run")[step] == pytest.approx(loss, rel=1e-4)


def test_rows_by_what_they_mean():
    assert Classes(["a", "b", "a"], 3).rows() == {"a": 0, "b": 1, None: 3}
    assert Classes(["a"], None).rows() == {"a": 0}
    assert Nothing().rows() == {None: 0}
