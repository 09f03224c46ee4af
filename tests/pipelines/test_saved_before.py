"""Folders saved by an earlier version load, and draw the pictures that it drew.

`fixtures/saved_before` was written by the code of commit 3af66fc, before its files were moved:
model_index.json names modules as they were called then. It is never made anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gensynth
from gensynth.samplers.respaced import RespacedDDIMScheduler

FOLDER = Path(__file__).parent.parent / "fixtures" / "saved_before"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
MODULES = {
    "velocity": "gensynth.flow_schedulers",
    "epsilon": "gensynth.schedulers",
    "tokens": "gensynth.token_decoders",
}
# Grey levels: convolutions round differently on another CPU. One other token would change a patch.
MOST_DIFFERENCE = {"velocity": 1, "epsilon": 1, "tokens": 0}


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", EXPECTED)
def test_names_the_module_of_then(name):
    index = json.loads((FOLDER / name / "model_index.json").read_text(encoding="utf-8"))
    assert index["scheduler"][0] == MODULES[name]


@pytest.fixture
def noise_of_then(monkeypatch):
    """DDIM that keeps the model's noise where it clips data, as it did until DiT's rule came."""
    step = RespacedDDIMScheduler.step

    def kept(*args, **keywords):
        return step(*args, use_clipped_model_output=False, **keywords)

    monkeypatch.setattr(RespacedDDIMScheduler, "step", kept)


@pytest.mark.parametrize("name", EXPECTED)
def test_draws_the_same_pictures(name, noise_of_then):
    pipe = gensynth.load(FOLDER / name, device="cpu")
    drawn = pipe(**EXPECTED[name]["call"])
    for image, file in zip(drawn, EXPECTED[name]["pictures"], strict=True):
        with Image.open(FOLDER / name / file) as expected:
            assert image.mode == expected.mode
            difference = np.abs(array(image) - array(expected)).max()
        assert difference <= MOST_DIFFERENCE[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_its_pictures_depend_on_the_label_and_the_seed(name):
    """Else the same pictures would prove nothing."""
    call = EXPECTED[name]["call"]
    pipe = gensynth.load(FOLDER / name, device="cpu")
    drawn = [array(image) for image in pipe(**call)]
    for change in ({"labels": call["labels"][::-1]}, {"seeds": call["seeds"][::-1]}):
        others = [array(image) for image in pipe(**{**call, **change})]
        assert all((a != b).mean() > 0.05 for a, b in zip(drawn, others, strict=True))
