"""`--variant` chooses the weights in every command that draws."""

import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gensynth.errors import InputError, UsageError
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.evaluation.request import Request
from gensynth.pipelines.loading import load
from gensynth.sampling.edits import EditJob, run
from gensynth.sampling.outputs import read_recipe
from gensynth_serve.web import app

WEIGHTS = "model/diffusion_pytorch_model{}.safetensors"


@pytest.fixture(scope="module")
def folder(make_pipeline, tmp_path_factory):
    """A model of tokens, and beside its weights others, "ema"."""
    folder = tmp_path_factory.mktemp("models") / "tokens"
    make_pipeline("tokens", steps=2, fit="pad").save_pretrained(folder)
    other = {name: t.flip(-1) for name, t in load_file(folder / WEIGHTS.format("")).items()}
    other = {name: tensor.contiguous() for name, tensor in other.items()}
    save_file(other, folder / WEIGHTS.format(".ema"), {"format": "pt"})
    return folder


def is_ema(pipeline, folder):
    given = load_file(folder / WEIGHTS.format(".ema"))
    state = pipeline.model.cpu().state_dict()
    return all(torch.equal(state[name], tensor) for name, tensor in given.items())


def test_an_edit(folder, tmp_path):
    Image.new("L", (28, 28), 90).save(tmp_path / "in.png")
    drawn = {}
    for variant in (None, "ema"):
        out = tmp_path / f"{variant}.png"
        run(EditJob(str(folder), tmp_path / "in.png", seed=3, variant=variant), out)
        assert read_recipe(out)["seed"] == 3
        drawn[variant] = Image.open(out).tobytes()
    assert drawn[None] != drawn["ema"]
    with pytest.raises(InputError, match="no weights of variant 'fp16'; there are ema"):
        run(EditJob(str(folder), tmp_path / "in.png", variant="fp16"), tmp_path / "x.png")


def test_an_evaluation(folder):
    model = AtHand.loaded(str(folder), "ema")
    assert is_ema(model.pipeline, folder)
    plain = DrawnImages(str(folder), 4)
    assert not is_ema(plain.pipeline, folder)
    # kept features of the one are not taken for those of the other
    assert DrawnImages(model, 4).fingerprint != plain.fingerprint
    asked = Request(model=str(folder), variant="ema", reference="fashion_mnist:test", num=4)
    asked.check()
    assert asked._samples().fingerprint == DrawnImages(model, 4).fingerprint


def test_pictures_that_exist_have_no_variant(tmp_path):
    request = Request(samples=str(tmp_path), variant="ema", reference="fashion_mnist:test")
    with pytest.raises(UsageError, match="--variant are for --model"):
        request.check()


def test_a_server(folder, monkeypatch):
    monkeypatch.setattr(app, "_mount_page", lambda *_: None)
    for variant in (None, "ema"):
        engine = app.create_app([str(folder)], variant=variant).state.engine
        assert is_ema(engine.pipelines["tokens"], folder) == (variant == "ema")
        assert engine.stop(5.0)
    assert not is_ema(load(folder, device="cpu"), folder)


@pytest.mark.parametrize("command", ["sample", "edit", "evaluate", "serve"])
def test_the_option(command):
    asked = [sys.executable, "-m", "gensynth", command, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout.count(" --variant ") == 1
