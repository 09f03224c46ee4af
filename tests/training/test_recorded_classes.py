"""The names of classes: what a run keeps of them, and that every class has one."""

import json

import pytest
from tiny import write_experiment

import gensynth
from gensynth.errors import UsageError
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train
from gensynth.training.session.output import recorded_classes


def test_the_newest_checkpoint_says_which_classes_a_run_began_with(tmp_path):
    assert recorded_classes(tmp_path) is None
    for step, text in ((4, json.dumps(["a", "b"])), (8, json.dumps(["b", "a"])), (12, "[")):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}" / "model"
        folder.mkdir(parents=True)
        (folder / "labels.json").write_text(text)
    assert recorded_classes(tmp_path) == ["b", "a"]  # the newest is damaged


SHORT = ["training.steps=1", "ema=null"]
NAMES = [*"abcdefghijkl"]


def test_a_model_with_room_for_nameless_classes_is_refused_and_both_advices_work(tmp_path):
    config = write_experiment(tmp_path)
    with pytest.raises(UsageError) as refused:
        train(load_experiment(config, [*SHORT, "model.num_classes=12"]))
    assert "model.num_classes is 12, but the data name 10 classes" in str(refused.value)
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    named = [*SHORT, "model.num_classes=12", f"data.classes=[{','.join(NAMES)}]"]
    run = train(load_experiment(config, named))
    pipeline = gensynth.load(run, device="cpu")
    assert (pipeline.condition.names, pipeline.condition.null) == (NAMES, 12)
    pipeline.save_pretrained(tmp_path / "again")
    again = gensynth.load(tmp_path / "again", device="cpu")
    assert again.condition.item("l") == 11 and again.model.config.num_classes == 12
    left_out = train(load_experiment(config, [*SHORT, f"output={tmp_path / 'other'}"]))
    assert len(gensynth.load(left_out, device="cpu").condition.names) == 10


@pytest.mark.parametrize("asked", [10, None])
def test_as_many_classes_as_names_are_none_too_many(tmp_path, asked):
    given = [] if asked is None else [f"model.num_classes={asked}"]
    run = train(load_experiment(write_experiment(tmp_path), [*SHORT, *given]))
    assert gensynth.load(run, device="cpu").model.config.num_classes == 10
