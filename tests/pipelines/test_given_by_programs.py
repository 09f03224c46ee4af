"""Labels, seeds and settings as programs hold them: arrays, tensors, numpy's numbers."""

import json

import numpy as np
import pytest
import torch

from gensynth.conditions import Classes
from gensynth.errors import UsageError
from gensynth.settings import Settings


def arrays(pictures) -> list[list]:
    return [np.asarray(picture).tolist() for picture in pictures]


@pytest.fixture(scope="module")
def expected(tiny_pipeline):
    return arrays(tiny_pipeline([2, 7], [5, 6], steps=2))


@pytest.mark.parametrize(
    ("labels", "seeds"),
    [
        (np.array([2, 7]), np.array([5, 6])),
        (torch.tensor([2, 7]), torch.tensor([5, 6])),
        ((np.int16(2), np.uint8(7)), range(5, 7)),
        ([torch.tensor(2), "7"], [np.int64(5), torch.tensor(6)]),
        (np.array(["Cat", "7"]), (5, 6)),
        (iter([2, 7]), iter([5, 6])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_labels_and_seeds(tiny_pipeline, expected, labels, seeds):
    assert arrays(tiny_pipeline(labels, seeds, steps=2)) == expected


def test_one_by_itself_is_a_picture(tiny_pipeline, expected):
    for label in (2, np.int64(2), "Cat"):
        assert arrays(tiny_pipeline(label, 5, steps=2)) == expected[:1]


@pytest.mark.parametrize(
    "label", [1.7, True, np.True_, np.float32(1), torch.tensor(1.7), None, [1]]
)
def test_what_is_no_label(tiny_pipeline, label):
    with pytest.raises(UsageError, match="a class is a whole number or a name"):
        tiny_pipeline([label], [0], steps=1)


@pytest.mark.parametrize(
    "seed", [1.7, True, np.False_, "5", None, torch.tensor(2.0), -1, 2**63, np.float64(3)]
)
def test_what_is_no_seed(tiny_pipeline, seed):
    with pytest.raises(UsageError, match="a seed must be a whole number from 0"):
        tiny_pipeline([1], [seed], steps=1)


@pytest.mark.parametrize(
    ("labels", "seeds", "words"),
    [
        (np.array([1.0, 2.0]), [0, 1], "a class is a whole number or a name, got 1.0"),
        (np.array([True, False]), [0, 1], "got True"),
        (torch.zeros(2, 2, dtype=torch.long), [0, 1], r"one dimension, got shape \[2, 2\]"),
        ({1, 2}, [0, 1], "labels are given"),
        ([1], np.array([0.5]), "a seed must be"),
        ([1], None, "seeds are given"),
        (np.array([]), np.array([]), "0 labels and 0 seeds"),
        ("Bag,Cat", [0, 1], "1 labels and 2 seeds"),
    ],
)
def test_arrays_that_are_refused(tiny_pipeline, labels, seeds, words):
    with pytest.raises(UsageError, match=words):
        tiny_pipeline(labels, seeds, steps=1)


def test_seeds_of_other_pipelines_and_of_edits(make_pipeline):
    from PIL import Image

    draw = make_pipeline("tokens", steps=2)
    image = Image.new("L", (32, 32), 99)
    _, other = draw.edit(image, seeds=torch.tensor([3, 4]), label=np.int64(2))
    assert arrays([other]) == arrays(draw.edit(image, seeds=np.int64(4), label=2))
    with pytest.raises(UsageError, match="a class is a whole number"):
        draw.edit(image, label=True)
    with pytest.raises(UsageError, match="a seed must be"):
        draw.edit(image, seeds=[True])
    for keywords in ({"strength": True}, {"edge": 1.5}, {"outpaint": (40.5, 40)}):
        with pytest.raises(UsageError, match=next(iter(keywords))):
            draw.edit(image, **keywords)
    assert draw.edit(image, outpaint=np.int64(40), label=1)[0].size == (40, 40)


def test_settings_of_numpy_are_written_as_json(tiny_pipeline):
    given = Settings.of(
        steps=np.int64(2),
        guidance=np.float32(1.5),
        size=(np.int32(16), torch.tensor(32)),
        guidance_interval=[np.float64(0), 1],
    )
    plain = Settings.of(steps=2, guidance=1.5, size=(16, 32), guidance_interval=(0.0, 1.0))
    assert given == plain
    assert json.dumps(given.to_json()) == json.dumps(plain.to_json())
    assert json.dumps(tiny_pipeline.resolve(given).settings.to_json())
    for wrong in ({"steps": True}, {"steps": 1.5}, {"guidance": True}, {"size": 1.5}):
        with pytest.raises(UsageError, match="must be"):
            Settings.of(**wrong)


def test_new_names_are_as_many_as_the_classes(make_pipeline):
    pipeline = make_pipeline()
    pipeline.condition = Classes(pipeline.classes, 10, [f"n{number}" for number in range(10)])
    pipeline.classes = np.array([f"Class {number}" for number in range(10)])
    assert pipeline.label_id("class 7") == pipeline.label_id("N7") == 7
    for names in (["a", "b"], [*range(10)], "abcdefghij"):
        with pytest.raises(UsageError, match="10 classes; give a name for each"):
            pipeline.classes = names


def test_a_number_of_steps_left_to_the_model_is_one_that_its_scheduler_takes(make_pipeline):
    draw = make_pipeline("tokens", steps=50)  # of 64 tokens
    assert draw.resolve(Settings()).steps == 50
    assert draw.resolve(Settings(size=16)).steps == 16
    with pytest.raises(UsageError, match="from 1 to 16, got 50"):
        draw.resolve(Settings(size=16, steps=50))
    assert make_pipeline(steps=1).resolve(Settings(scheduler="FlowSDEScheduler")).steps == 2
    assert make_pipeline(steps=5000).resolve().steps == 1000
    for wrong in ({"steps": "many"}, {"size": 1.5}, {"guidance": True}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            make_pipeline(**wrong)
