"""Runs on the latents of a VAE, and on zoomed crops."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import losses, weights, write_experiment

import gensynth
from gensynth.errors import InputError, UsageError
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train
from gensynth.training.run import Run


@pytest.fixture
def config(tiny_vae_folder, tmp_path) -> Path:
    return latent_experiment(tmp_path, tiny_vae_folder)


def latent_experiment(folder: Path, vae: Path, **changes) -> Path:
    return write_experiment(
        folder,
        **{
            "autoencoder.kind": "kl",
            "autoencoder.patch": 8,
            "autoencoder.path": str(vae),
            "data.channels": 3,
            "data.fit": "crop",
            "data.size": 32,
            "training.steps": 6,
            "checkpoint.every": 3,
            **changes,
        },
    )


def test_a_run_on_latents_resumes_bit_equal(config, tiny_vae_folder, tmp_path):
    whole = train(load_experiment(latent_experiment(tmp_path / "whole", tiny_vae_folder)))
    train(load_experiment(config, ["training.steps=2"]))
    resumed = train(load_experiment(config))
    assert losses(resumed) == losses(whole)
    assert weights(resumed) == weights(whole)


def test_the_finished_model_holds_the_whole_vae(config, tiny_vae_folder, tmp_path):
    moved = shutil.copytree(tiny_vae_folder, tmp_path / "vae")
    run = train(load_experiment(config, [f"autoencoder.path={moved}", "training.steps=1"]))
    shutil.rmtree(moved)
    pipeline = gensynth.load(run, device="cpu")
    stored = load_file(tiny_vae_folder / "diffusion_pytorch_model.safetensors")
    own = pipeline.autoencoder.state_dict()
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in stored.items())
    (picture,) = pipeline([0], [0])
    assert (picture.size, picture.mode) == ((32, 32), "RGB")
    for path in (run / "model").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_a_damaged_vae_in_a_model_is_refused(config, tmp_path):
    run = train(load_experiment(config, ["training.steps=1"]))
    path = run / "model" / "autoencoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layers_per_block": 2}))
    with pytest.raises(gensynth.errors.CorruptError):
        gensynth.load(run)


def test_the_vae_is_never_trained(config):
    run = Run(*arguments(load_experiment(config)))
    trained = {id(p) for group in run.learner.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(parameter) for parameter in run.learner.autoencoder.parameters()}
    assert not any(parameter.requires_grad for parameter in run.learner.autoencoder.parameters())


def arguments(experiment):
    from gensynth.training.session import output
    from gensynth.training.session.faults import StopRequest

    stop = StopRequest()
    stop.release()
    return experiment, output.prepare(experiment), stop


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("autoencoder.patch=4", UsageError, "autoencoder.patch is 4, but .* is 8"),
        ("autoencoder.latent_channels=16", UsageError, "latent_channels is 16, but .* is 4"),
        ("autoencoder.path=owner/nothing", InputError, "autoencoder.path=FOLDER"),
    ],
)
def test_a_vae_that_is_not_what_was_said(config, override, error, words):
    with pytest.raises(error, match=words):
        train(load_experiment(config, [override]))


def test_a_run_on_zoomed_crops_resumes_bit_equal(tmp_path):
    changes = {"data.zoom": [1.0, 1.5], "data.fit": "crop", "training.steps": 6}
    whole = train(load_experiment(write_experiment(tmp_path / "whole", **changes)))
    config = write_experiment(tmp_path / "parts", **changes)
    train(load_experiment(config, ["training.steps=2"]))
    resumed = train(load_experiment(config, ["data.workers=2"]))
    assert losses(resumed) == losses(whole)
    assert weights(resumed) == weights(whole)
    del changes["data.zoom"]
    plain = train(load_experiment(write_experiment(tmp_path / "plain", **changes)))
    assert losses(plain) != losses(whole)
