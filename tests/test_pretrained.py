"""The models that come with the package: small, loadable, and able to do what their cards say."""

import numpy as np
import pytest
import torch
from PIL import Image

from gensynth import load, load_experiment
from gensynth.autoencoders import TinyAutoencoder, open_autoencoder
from gensynth.config import Data
from gensynth.data.images import decode, to_tensor
from gensynth.data.sources import open_source
from gensynth.errors import InputError, UsageError
from gensynth.experiments.names import check_places
from gensynth.metrics.extractors.scorer import EmojiScorer
from gensynth.pretrained import CODECS, DEFAULT, PRETRAINED, SERVED, TOKENS

LARGEST = 26_000_000  # bytes, with the autoencoder and the text encoder


@pytest.fixture(scope="module")
def maskgit():
    return load(TOKENS, device="cpu")


@pytest.mark.parametrize("name", PRETRAINED)
def test_they_are_small_and_have_a_card(name):
    files = [file for file in PRETRAINED[name].rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < LARGEST
    assert f"# {name}" in (PRETRAINED[name] / "README.md").read_text(encoding="utf-8")


def test_what_comes_along_for_drawing_is_among_what_is_served():
    assert DEFAULT in SERVED and set(SERVED) <= set(PRETRAINED)


def test_the_default_model_draws_what_prompts_say():
    prompts = ["cat face, fluent", "flag: Italy, twemoji", "orange heart, noto"]
    prompts += ["automobile, noto", "sunflower, blob", "open book, flat"]
    pictures = load(DEFAULT, device="cpu")(prompts, seeds=range(len(prompts)), steps=10)
    pixels = torch.stack([to_tensor(picture) for picture in pictures])
    scorer = EmojiScorer()
    found = scorer(pixels)["embedding"] @ scorer.embed(prompts).T
    assert (found.argmax(dim=1) == torch.arange(len(prompts))).sum() >= len(prompts) - 1


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_seed_gives_the_same_picture_in_any_batch(name):
    pipeline = load(name, device="cpu")
    together = pipeline(["Sneaker", "Bag"], [7, 8], steps=4)
    alone = pipeline(["Bag"], [8], steps=4)
    difference = np.asarray(together[1], dtype=int) - np.asarray(alone[0], dtype=int)
    assert abs(difference).max() <= 1
    assert np.asarray(together[0]).std() > 20  # something is drawn


def test_the_tokenizer_gives_test_images_back(maskgit):
    rows = open_source(Data(split="test", channels=1)).rows
    errors = []
    for row in rows.select(range(10)):
        image = decode(row["image"]["bytes"], channels=1)
        (again,) = maskgit.edit(image, label=row["label"], strength=0.01, seeds=[0])
        errors.append(np.abs(np.asarray(again, dtype=float) - np.asarray(image)).mean())
    assert np.mean(errors) < 12  # of 255; the mean image of their class is 39 away


def test_a_shoe_is_completed_and_what_was_there_stays(maskgit):
    rows = open_source(Data(split="test", channels=1)).rows
    row = next(row for row in rows if row["label"] == 7)
    image = decode(row["image"]["bytes"], channels=1)
    half = image.crop((0, 0, 14, 28))
    for shoe in maskgit.edit(half, label="Sneaker", outpaint=(28, 28), anchor="left", seeds=[0, 1]):
        pixels = np.asarray(shoe)
        assert (pixels[:, :14] == np.asarray(half)).all()
        assert pixels[14:, 16:].mean() > 3 * pixels[:8, 16:].mean()  # a sole, and nothing above


def test_a_class_is_replaced_inside_the_mask(maskgit):
    rows = open_source(Data(split="test", channels=1)).rows
    row = next(row for row in rows if row["label"] == 2)
    image = decode(row["image"]["bytes"], channels=1)
    mask = Image.new("L", (28, 28))
    mask.paste(255, (0, 14, 28, 28))
    trousers, pullovers = (
        maskgit.edit(image, label=label, mask=mask, seeds=[0, 1, 2, 3])
        for label in ("Trouser", "Pullover")
    )
    for picture in (*trousers, *pullovers):
        assert (np.asarray(picture)[:14] == np.asarray(image)[:14]).all()
    # Trousers have a gap between the legs where a pullover has cloth.
    gaps = [np.mean([np.asarray(p)[22:, 13:15] for p in each]) for each in (trousers, pullovers)]
    assert gaps[0] < gaps[1]


# Codecs


@pytest.mark.parametrize("name", CODECS)
def test_codecs_are_small_and_have_a_card_and_a_licence(name):
    files = [file for file in CODECS[name].rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < LARGEST
    assert f"# {name}" in (CODECS[name] / "README.md").read_text(encoding="utf-8")
    assert "MIT License" in (CODECS[name] / "LICENSE").read_text(encoding="utf-8")


def test_a_codec_is_opened_by_name_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "taef2").mkdir()  # empty, and not looked at: the name wins
    monkeypatch.chdir(tmp_path)
    settings = ["kind=kl", "path=taef2", "latent_channels=32"]
    check_places(load_experiment("emoji/demo", [f"autoencoder.{one}" for one in settings]))
    codec = open_autoencoder("taef2", "kl")
    assert type(codec) is TinyAutoencoder and codec.latent_shape(64, 64) == (32, 8, 8)
    with pytest.raises(InputError, match=r"no autoencoder in the folder '\./taef2'"):
        open_autoencoder("./taef2", "kl")
    with pytest.raises(UsageError, match=r"needs autoencoder\.kind kl"):
        open_autoencoder("taef2", "vq")


def test_colours_survive_the_codec():
    codec = open_autoencoder("taef2", "kl")
    halves = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    halves[:, 0, :, :16], halves[:, 2, :, 16:] = 220, 180  # red beside blue
    again = codec.decode(codec.encode(halves)).float()
    assert (again[..., 4:12] - halves[..., 4:12]).abs().mean() < 12
    assert (again[..., 20:28] - halves[..., 20:28]).abs().mean() < 12
