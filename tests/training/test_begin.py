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
from gensynth.experiments.beginning.begin import begin_from
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
    begun = begin_from(str(first), parts)
    there = gensynth.load(first, device="cpu").model.state_dict()
    for name, tensor in parts.model.state_dict().items():
        if not name.startswith("class_embedders."):
            assert torch.equal(tensor, there[name]), name
            continue
        assert torch.equal(tensor[1], there[name][NAMES.index("Bag")])
        assert torch.equal(tensor[3], there[name][NAMES.index("Coat")])
        assert torch.equal(tensor[4], there[name][10])  # no class
        assert torch.equal(tensor[0], before[name][0]) and torch.equal(tensor[2], before[name][2])
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in begun.lines[1:]}
    assert rows["part"].split("  ")[0] == "taken over"
    about = rows["class_embedders"]
    assert about.startswith('2 of 4 classes, with "no class"') and "2 classes" in about
    assert about.endswith("called alike: Bag, Coat; new: Hat, Glove")
    assert set(begun.other) == {f"class_embedders.{n}.weight" for n in range(3)}


def test_as_many_classes_in_another_order(first, tmp_path):
    """The table fits by its shape, and still is filled by name."""
    parts, _ = fresh(tmp_path, NAMES[::-1])
    begin_from(str(first), parts)
    name = "class_embedders.0.weight"
    there = gensynth.load(first, device="cpu").model.state_dict()[name]
    assert torch.equal(parts.model.state_dict()[name], there[[*range(9, -1, -1), 10]])


def test_other_channels_are_refused_and_the_advice_works(first, tmp_path):
    parts, before = fresh(tmp_path / "1", NAMES, "autoencoder.patch=1")
    with pytest.raises(
        UsageError, match="works on 4 channels, and the model of this run on 1"
    ) as e:
        begin_from(str(first), parts)
    assert all(torch.equal(parts.model.state_dict()[name], before[name]) for name in before)
    advice = str(e.value).split("pixels: ")[1].split(", or")[0]
    parts, _ = fresh(tmp_path / "2", NAMES, "autoencoder.patch=1", *advice.split())
    assert begin_from(str(first), parts).other == []


def test_an_output_of_another_shape_is_drawn_anew(first, tmp_path):
    parts, before = fresh(tmp_path, NAMES, "objective={name: ddpm}")
    begun = begin_from(str(first), parts)
    assert set(begun.other) == {"final_layer.conv.weight", "final_layer.conv.bias"}
    name = "final_layer.conv.weight"
    assert torch.equal(parts.model.state_dict()[name], before[name])
    row = next(line for line in begun.lines if "final_layer" in line)
    assert "conv.weight [8, 16, 3, 3] instead of [4, 16, 3, 3]" in row
    assert "prediction is 'velocity' there and 'epsilon' here" in begun.lines[-1]


def test_a_model_without_a_class_table_leaves_it_behind(first, tmp_path):
    parts, _ = fresh(tmp_path, NAMES, "condition.kind=none")
    begun = begin_from(str(first), parts)
    there = gensynth.load(first, device="cpu").model.state_dict()["class_embedders.0.weight"]
    assert torch.equal(parts.model.state_dict()["class_embedders.0.weight"], there[10:])
    assert any('with "no class"' in line for line in begun.lines)  # the one row that is left


def test_nothing_fits(first, tmp_path):
    parts, _ = fresh(tmp_path, NAMES, "model.hidden_size=16")
    with pytest.raises(UsageError, match=r"hidden_size is 8 there and 16 here"):
        begin_from(str(first), parts)


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


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("tabby, tabby cat, tail", 0),
        ("Tabby", 0),
        ("n02123159", 1),
        ("tiger", None),  # a part of a name is not a name
        ("0", None),
        ("tail", None),  # of two
        ("dog", None),
        (None, 3),
    ],
)
def test_a_row_by_what_another_model_calls_it(name, row):
    names = ["tabby, tabby cat, tail", "tiger cat, tail", "x"]
    synsets = ["n02123045", "n02123159", "n00000001"]
    assert Classes(names, 3, synsets).row_of(name) == row
