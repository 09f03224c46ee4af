"""A model's name that is nearly one is answered with the right one."""

import re
import shutil

import pytest

from gensynth.errors import InputError
from gensynth.pipelines.finding import resolve
from gensynth.pretrained import PRETRAINED
from gensynth.system import hub


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with two runs, one of which has no model yet, and a hub out of reach."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_problem", lambda: "there is no network")
    index = PRETRAINED["dico-nano-fashion"] / "model_index.json"
    for folder in ("runs/mine", "runs/older/deep", "Sneakers/checkpoints/step-00000010"):
        (tmp_path / folder / "model").mkdir(parents=True)
        shutil.copy(index, tmp_path / folder / "model")
    (tmp_path / "runs" / "mint").mkdir()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("runs/min", "runs/mine"),
        ("./runs/min", "runs/mine"),
        ("run/mien", "runs/mine"),
        ("runs/odler/deep", "runs/older/deep"),
        ("sneaker", "Sneakers"),
        ("dico-nano-fashon", "dico-nano-fashion"),
    ],
)
def test_a_name_that_is_nearly_one_is_answered_with_the_right_one(here, given, meant):
    with pytest.raises(InputError) as refused:
        resolve(given)
    assert re.search(r"Did you mean '([^']*)'\?$", str(refused.value))[1] == meant
    resolve(meant)  # the advice works


@pytest.mark.parametrize("given", ["runs/other", "nowhere", "runs/odler", "/nowhere/mine"])
def test_what_is_like_no_model_is_not_suggested(here, given):
    with pytest.raises(InputError) as refused:
        resolve(given)
    assert "Did you mean" not in str(refused.value)
