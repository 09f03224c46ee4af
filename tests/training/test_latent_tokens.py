"""Runs of tokenizers of latents, and of models of their tokens."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from tiny import losses, weights, write_experiment

import gensynth
from gensynth.autoencoders import LatentVQ, TinyAutoencoder, open_autoencoder
from gensynth.errors import UsageError
from gensynth.experiments.check import check_model
from gensynth.experiments.encoding import encode
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

STEPS = "training.steps=6"
VQ = {"widths": [8], "latent_channels": 8, "codebook_size": 16, "norm_groups": 2}


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> Path:
    """A codec of 8 pixels a position and 4 channels, with random weights."""
    folder = tmp_path_factory.mktemp("codec")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        TinyAutoencoder(4, normed=False).save_pretrained(folder)
    return folder


def write(folder: Path, codec: Path) -> Path:
    """The YAML of a tiny tokenizer of 4x4 latents; the pictures have captions."""
    path = write_experiment(folder)
    table = pq.read_table(folder / "images.parquet")
    captions = [["a shirt", "grey"] for _ in range(len(table))]
    table = table.drop_columns("label").append_column("caption", pa.array(captions))
    pq.write_table(table.replace_schema_metadata(None), folder / "images.parquet")
    tree = yaml.safe_load(path.read_text())
    tree["data"] |= {"channels": 3, "flip": False, "size": 32}
    tree["condition"] = {"kind": "text", "length": 8, "width": 16, "layers": 1, "heads": 2}
    tree["autoencoder"] = {"kind": "kl", "path": str(codec), "latent_channels": 4}
    tree["model"] = {"name": "LatentVQ-nano", **VQ}
    tree["objective"] = {"name": "reconstruction", "pixel": "l2", "revive_every": 2}
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def whole(codec, tmp_path_factory) -> tuple[Path, Path]:
    """The YAML of an uninterrupted run, and its folder."""
    config = write(tmp_path_factory.mktemp("whole"), codec)
    return config, train(load_experiment(config, [STEPS]))


@pytest.mark.parametrize("stop_at", [2, 3])  # at a replacement of codes, and before
def test_a_resumed_run_is_bit_equal(stop_at, codec, whole, tmp_path):
    config = write(tmp_path, codec)
    train(load_experiment(config, [f"training.steps={stop_at}"]))
    run = train(load_experiment(config, [STEPS]))
    assert losses(run) == losses(whole[1])
    assert weights(run) == weights(whole[1])


def test_the_finished_run_is_a_whole_codec_with_the_frozen_one_unchanged(whole, codec):
    found = open_autoencoder(str(whole[1]), "vq")
    assert isinstance(found, LatentVQ)
    before, after = TinyAutoencoder.from_pretrained(codec).state_dict(), found.codec.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    for path in (whole[1] / "model").rglob("*.json"):
        assert str(codec) not in path.read_text()


def test_encoded_latents_train_with_the_same_losses_and_are_shown(whole, tmp_path):
    made = encode(load_experiment(whole[0]), tmp_path / "encoded")
    assert made.shape == [4, 4, 4]
    changes = ["data.source=encoded", f"data.path='{tmp_path / 'encoded'}'", "sampling.every=3"]
    output = f"output='{tmp_path / 'run'}'"
    run = train(load_experiment(whole[0], [STEPS, output, "sampling.num=4", *changes]))
    assert losses(run) == losses(whole[1])
    assert weights(run) == weights(whole[1])
    grid = np.asarray(Image.open(run / "samples" / "step-00000003.png"))
    assert grid.shape[1] >= 4 * 32 and grid.std() > 1


def test_it_learns(codec, tmp_path):
    changes = ["optimizer.lr=0.01", "training.steps=40", "objective.codebook=1"]
    run = train(load_experiment(write(tmp_path, codec), changes))
    curve = list(losses(run).values())
    assert sum(curve[-5:]) < 0.8 * sum(curve[:5])


def test_a_model_of_its_tokens_draws_and_edits_by_prompts(whole, tmp_path):
    tree = yaml.safe_load(whole[0].read_text())
    tree |= {"output": str(tmp_path / "run"), "objective": {"name": "masked"}}
    tree["autoencoder"] = {"kind": "vq", "path": str(whole[1]), "patch": 8, "codebook_size": 16}
    tree["model"] = {"name": "MaskGIT-nano", "hidden_size": 16, "num_heads": 2, "depth": 1}
    tree["sampling"] |= {"guidance": 2.0}
    config = tmp_path / "masked.yaml"
    config.write_text(yaml.safe_dump(tree))
    made = encode(load_experiment(config), tmp_path / "tokens")
    assert (made.shape, made.dtype) == ([4, 4], "uint16")
    run = train(load_experiment(config, ["training.steps=2"]))
    tokens = ["data.source=encoded", f"data.path='{tmp_path / 'tokens'}'"]
    output = f"output='{tmp_path / 'other'}'"
    other = train(load_experiment(config, ["training.steps=2", output, *tokens]))
    assert losses(other) == losses(run)
    pipeline = gensynth.load(run, device="cpu")
    assert isinstance(pipeline.autoencoder, LatentVQ)
    assert pipeline.config.codebook == open_autoencoder(str(whole[1]), "vq").fingerprint()
    (picture,) = pipeline(["a shirt"], [0])
    assert (picture.size, picture.mode) == ((32, 32), "RGB")
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    (edited,) = pipeline.edit(picture, "grey", Image.fromarray(mask), seeds=[1], edge=0)
    assert np.array_equal(np.asarray(edited)[mask == 0], np.asarray(picture)[mask == 0])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "autoencoder={kind: none, patch: 4}",
            r"set autoencoder\.kind=kl and an auto",
        ),
        ("autoencoder={kind: vq, path: x, patch: 8}", r"LatentVQ-nano trains on latents; set"),
        ("objective.perceptual=0.1", r"compares pixels, .* set objective\.perceptual=0"),
        ("model.channels=3", r"model\.channels is 3, but the latents have 4"),
        ("objective={name: flow}", "trains models of latents, and LatentVQ-nano is a tokenizer"),
        ("model.widths=[8,8,8,8]", "needs a latent size divisible by 8"),
        ("evaluation.every=2", "a tokenizer draws nothing"),
    ],
)
def test_what_does_not_fit_is_refused(override, words, codec, tmp_path):
    with pytest.raises(UsageError, match=words):
        check_model(load_experiment(write(tmp_path, codec), [override]))
