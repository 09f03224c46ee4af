"""What pictures can show: what people type, what models are told, what files keep."""

import json
from types import SimpleNamespace

import pytest
import torch

from gensynth.conditions import CONDITIONS, Classes, Nothing, condition_kind, dropped, joined
from gensynth.errors import CorruptError, UsageError

NAMES = ["Ant", "Bear", "Cat", "Sneaker", "Bag", "T-shirt", "猫"]
CPU = torch.device("cpu")


@pytest.fixture
def classes() -> Classes:
    return Classes.of_data(NAMES)


# Classes


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-6", [0, 1, 2, 3, 4, 5, 6]),
        ("3,5", [3, 5]),
        ("2-2", [2]),
        (" sneaker , BAG,0-1,", [3, 4, 0, 1]),
        ("T-shirt,猫, 3", [5, 6, 3]),
        ("1,1", [1, 1]),
    ],
)
def test_what_a_person_types(classes, text, numbers):
    assert classes.parse(text) == numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no labels given"),
        (" , ", "no labels given"),
        ("5-3", "run backwards; write 3-5"),
        ("0-7", "class 7 does not exist; this model knows 0-6"),
        ("7", "class 7 does not exist"),
        ("snaeker", "no class 'snaeker'. Did you mean 'Sneaker'.* Classes: Ant, Bear"),
        ("-1", "no class '-1'"),
        ("²", "no class '²'"),
    ],
)
def test_what_cannot_be_read(classes, text, words):
    with pytest.raises(UsageError, match=words):
        classes.parse(text)


@pytest.mark.parametrize("wish", [2, "2", " 2 ", "Cat", "cat", " CAT "])
def test_one_class(classes, wish):
    assert classes.item(wish) == 2


@pytest.mark.parametrize("wish", [7, -1, None, [1], "", "1.5", {}])
def test_no_class(classes, wish):
    with pytest.raises(UsageError, match=r"class .*(7|-1|None|\[1\]|''|'1.5'|{})"):
        classes.item(wish)


def test_words_and_numbers(classes):
    assert [classes.name(item) for item in (0, 6)] == ["Ant", "猫"]
    assert classes.number(4) == 4
    assert classes.choices()[1] == ("1 · Bear", 1)
    assert classes.every() == list(range(7))
    assert Classes(["0", "b"], None).choices() == [("0", 0), ("1 · b", 1)]
    assert classes.job([3, 3]) == {"labels": [3, 3]}
    assert classes.model_keywords() == {"num_classes": 7}


def test_what_a_model_is_told(classes):
    assert Classes.tensors == ("class_labels",)
    for given in ([3, 0], torch.tensor([3, 0])):
        (told,) = classes.encode(given, CPU).items()
        assert told[0] == "class_labels"
        assert told[1].dtype == torch.int64 and told[1].tolist() == [3, 0]
    none = classes.none(CPU)["class_labels"]
    assert none.dtype == torch.int64 and none.tolist() == [7]
    assert Classes(NAMES, None).none(CPU) is None


class Config(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


@pytest.mark.parametrize(("more", "null"), [({}, 3), ({"null_label": False}, None)])
def test_classes_of_a_model(more, null):
    classes = Classes.of_model(SimpleNamespace(config=Config(num_classes=3, **more)))
    assert (classes.names, classes.null) == (["0", "1", "2"], null)


def test_a_recipe_is_read_again(classes):
    for item in range(7):
        recipe = json.loads(json.dumps(classes.recipe(item)))
        assert recipe == {"label": item, "class": NAMES[item]}
        assert classes.from_recipe({**recipe, "seed": 5}) == item
    assert classes.recipe(None) == {"label": None, "class": None}
    assert classes.from_recipe({"label": "bear"}) == 1
    for label in (True, None, 1.0, [1], 7, "Snaek"):
        with pytest.raises(UsageError, match="class"):
            classes.from_recipe({"label": label})
    with pytest.raises(UsageError, match="class"):
        classes.from_recipe({})


def test_a_folder_keeps_the_names(classes, tmp_path):
    classes.save(tmp_path)
    assert "猫" in (tmp_path / "labels.json").read_text(encoding="utf-8")
    for null in (7, None):
        again = Classes([str(number) for number in range(7)], null).load(tmp_path)
        assert (again.names, again.null) == (NAMES, null)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "labels.json is missing"),
        ("[", "is not readable"),
        ('["a", "b"]', "a list of 7 class names"),
        ("[0, 1, 2, 3, 4, 5, 6]", "a list of 7 class names"),
        ('"abcdefg"', "a list of 7 class names"),
    ],
)
def test_a_folder_with_other_names_is_refused(classes, tmp_path, content, words):
    if content is not None:
        (tmp_path / "labels.json").write_text(content, encoding="utf-8")
    with pytest.raises(CorruptError, match=words):
        classes.load(tmp_path)


def test_two_models_speak_of_the_same_pictures_if_they_know_the_same_classes(classes):
    assert classes.describe() == Classes(list(NAMES), None).describe()
    renamed = Classes([*NAMES[:6], "Cow"], 7).describe()
    assert {key for key, name in classes.describe().items() if renamed[key] != name} == {"class 6"}
    fewer = Classes(NAMES[:6], 6).describe()
    assert fewer["number of classes"] == 6 and "class 6" not in fewer


# Nothing


def test_nothing():
    nothing = Nothing.of_data(NAMES)
    assert nothing.every() == nothing.parse("  ") == [None]
    assert nothing.choices() == []
    assert nothing.item(None) is None
    assert nothing.from_recipe({"label": 3}) is None
    assert nothing.recipe(None) == {} and nothing.number(None) == 0
    assert nothing.encode([None, None], CPU) == nothing.encode(torch.tensor([3]), CPU) == {}
    assert nothing.none(CPU) is None
    assert nothing.model_keywords() == {"num_classes": 0, "null_label": True}
    assert nothing.describe() != Classes.of_data([]).describe()
    assert json.loads(json.dumps(nothing.job([None]))) == {"items": [None]}
    for ask in (lambda: nothing.parse("Bag"), lambda: nothing.item(3)):
        with pytest.raises(UsageError, match=r"without a class or prompt, got ('Bag'|3)"):
            ask()


def test_nothing_leaves_no_file(tmp_path):
    Nothing().save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(Nothing().load(tmp_path), Nothing)


# All kinds


def test_kinds_by_name():
    assert condition_kind("classes") is Classes and condition_kind("none") is Nothing
    with pytest.raises(UsageError, match=r"Did you mean 'classes'.* Known: classes, none"):
        condition_kind("clases")
    assert set(CONDITIONS) == {"classes", "none", "text"}


def tensors() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The conditions of three pictures, and "nothing" in another format."""
    told = {"labels": torch.tensor([1, 2, 3]), "text": torch.arange(12.0).view(3, 2, 2).half()}
    none = {"labels": torch.tensor([10]), "text": torch.full((1, 2, 2), -1.0)}
    return told, none


def test_joined():
    told, none = tensors()
    both = joined(told, {**none, "further": torch.zeros(1)})
    assert both["labels"].tolist() == [1, 2, 3, 10, 10, 10]
    assert both["text"].dtype == torch.float16 and both["text"].shape == (6, 2, 2)
    assert torch.equal(both["text"][:3], told["text"]) and (both["text"][3:] == -1).all()
    assert set(both) == {"labels", "text"}
    assert joined({}, none) == {}


def test_dropped():
    told, none = tensors()
    before = {name: tensor.clone() for name, tensor in told.items()}
    mixed = dropped(told, none, torch.tensor([True, False, True]))
    assert mixed["labels"].tolist() == [10, 2, 10]
    assert mixed["text"].dtype == torch.float16
    assert (mixed["text"][[0, 2]] == -1).all() and torch.equal(mixed["text"][1], told["text"][1])
    assert all(torch.equal(told[name], before[name]) for name in told)
    kept = dropped(told, None, torch.tensor([True, True, True]))
    assert kept == told and kept is not told
    assert dropped({}, none, torch.tensor([True])) == {}
