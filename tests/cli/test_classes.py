"""`gensynth classes`: what a model can draw, without its weights."""

import json
import shutil

import pytest

from gensynth.cli.classes import classes, condition_of
from gensynth.errors import CorruptError, GensynthError, UsageError


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    """Of ten classes, with WordNet ids and without weights."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_model_folder, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    names = ["tench, Tinca tinca", "goldfish", *(f"shark {n}" for n in range(8))]
    (copy / "labels.json").write_text(json.dumps(names))
    (copy / "synsets.json").write_text(json.dumps([f"n0144000{n}" for n in range(10)]))
    return copy


def test_classes_are_listed_and_searched(folder, capsys):
    def shown(*words: str) -> list[str]:
        classes(str(folder), list(words))
        return capsys.readouterr().out.splitlines()

    assert len(shown()) == 10
    assert shown("TINCA") == ["0 · tench, Tinca tinca · n01440000"]
    assert shown("n01440001") == ["1 · goldfish · n01440001"]
    assert shown("shark", "n01440009") == ["9 · shark 7 · n01440009"]
    with pytest.raises(UsageError, match=r"contains 'goldfsh'\. Did you mean 'goldfish'"):
        shown("goldfsh")


def test_what_a_model_draws_is_read_without_its_weights(folder, tiny_pipeline):
    assert condition_of(str(folder)).choices()[9] == ("9 · shark 7 · n01440009", 9)


@pytest.mark.parametrize("content", ["[]", "{}", '{"num_classes": "ten"}', "{"])
def test_damaged_folders_are_said(folder, content):
    (folder / "model" / "config.json").write_text(content)
    with pytest.raises(CorruptError):
        condition_of(str(folder))


def test_a_model_without_classes(folder):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "condition_kind": "none"}))
    with pytest.raises(UsageError, match="no classes to choose from"):
        classes(str(folder), [])
    (folder / "model_index.json").write_text(json.dumps({**index, "condition_kind": ["x"]}))
    with pytest.raises(GensynthError):
        classes(str(folder), [])
