"""A frozen text encoder is found again after a move, and a changed one is noticed."""

import json
import shutil

import pytest
import torch
from tiny_clip import save_clip

from gensynth.conditions import Texts
from gensynth.config import Shown
from gensynth.errors import CorruptError, InputError, RefusedError

CAPTIONS = ["red apple", "green apple", "cat face"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two tiny encoders of one vocabulary, `clip` and `other`."""
    folder = tmp_path_factory.mktemp("encoders")
    for seed, name in enumerate(("clip", "other")):
        save_clip(folder / name, CAPTIONS, seed, max_position_embeddings=7)
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A folder with the encoders, and with the condition of a model of `clip` in `a/b/model`."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "a/b/model").mkdir(parents=True)
    of(tmp_path / "clip").save(tmp_path / "a/b/model")
    return tmp_path


def of(encoder, begun=None) -> Texts:
    return Texts.of_experiment(Shown(kind="text", encoder=str(encoder)), [], CAPTIONS, begun)


def load(folder) -> Texts:
    return Texts(7).load(folder)


def moved(place):
    """The model alone, as another machine gets it; and the encoder at another place."""
    (place / "a/b/model").rename(place / "model")
    (place / "clip").rename(place / "elsewhere")
    with pytest.raises(
        InputError, match=r"Put the text encoder with its tokenizer into .*model/te"
    ):
        load(place / "model")
    return place / "model", place / "elsewhere"


def reads_as(condition, encoder):
    told, expected = (one.encode(["cat face"], CPU) for one in (condition, of(encoder)))
    return all(torch.equal(told[name], tensor) for name, tensor in expected.items())


def test_the_encoder_is_put_into_the_folder(place):
    model, encoder = moved(place)
    shutil.copytree(encoder, model / "text_encoder")
    assert reads_as(load(model), encoder)


def test_the_encoder_is_put_into_the_folder_as_diffusers_has_it(place):
    model, encoder = moved(place)
    shutil.copytree(encoder, model / "text_encoder", ignore=shutil.ignore_patterns("token*"))
    shutil.copytree(encoder, model / "tokenizer", ignore=shutil.ignore_patterns("*.safetensors"))
    assert reads_as(load(model), encoder)


@pytest.mark.parametrize("relative", [False, True])
def test_its_place_is_written_into_the_record(place, relative):
    model, encoder = moved(place)
    record = json.loads((model / "condition.json").read_text())
    record["encoder"] = "../elsewhere" if relative else str(encoder)
    (model / "condition.json").write_text(json.dumps(record))
    assert reads_as(load(model), encoder)


def test_another_encoder_in_the_folder_is_refused(place):
    """Though the right one is still where it was."""
    model = place / "a/b/model"
    assert load(model).frozen is not None
    shutil.copytree(place / "other", model / "text_encoder")
    with pytest.raises(CorruptError, match=r"model/text_encoder' is not, or no longer, the one"):
        load(model)


def test_a_folder_that_is_no_encoder_is_told_with_what_to_do(place):
    (place / "clip/config.json").unlink()
    (place / "clip/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot be read: .* Put the text encoder"):
        load(place / "a/b/model")


def test_two_models_of_one_encoder_at_two_places_speak_of_the_same(place):
    shutil.copytree(place / "clip", place / "copy")
    assert of(place / "copy").describe() == of(place / "clip").describe()
    assert of(place / "other").describe() != of(place / "clip").describe()


def test_a_run_goes_on_with_the_encoder_it_began_with_only(place):
    begun = place / "a/b/model"
    assert reads_as(of(place / "clip", begun), place / "clip")
    shutil.copy(place / "other/model.safetensors", place / "clip")
    with pytest.raises(RefusedError, match=r"clip' has changed since .*model was trained with it"):
        of(place / "clip", begun)
