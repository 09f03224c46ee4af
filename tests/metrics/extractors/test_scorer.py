"""The scorer that comes along, and the features that neighbours are looked for in."""

import pytest
import torch
from PIL import Image, ImageDraw

from gensynth.data.images import to_tensor
from gensynth.metrics import own_ranks
from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.scorer import LENGTH, EmojiScorer, token_ids
from gensynth.pretrained import SCORER

LARGEST = 4_000_000  # bytes


@pytest.fixture(scope="module")
def scorer():
    return EmojiScorer()


@pytest.fixture(scope="module")
def pictures():
    """A red heart and a green square, as flat emoji are drawn: uint8 [2, 3, 64, 64]."""
    found = []
    for draw in (heart, square):
        image = Image.new("RGB", (64, 64), "white")
        draw(ImageDraw.Draw(image))
        found.append(to_tensor(image))
    return torch.stack(found)


def heart(canvas):
    for left in (4, 30):
        canvas.ellipse((left, 8, left + 30, 36), fill=(220, 40, 60))
    canvas.polygon([(6, 28), (58, 28), (32, 60)], fill=(220, 40, 60))


def square(canvas):
    canvas.rounded_rectangle((4, 4, 59, 59), 6, fill=(120, 177, 89))


def test_it_is_small_and_has_a_card():
    assert sum(file.stat().st_size for file in SCORER.iterdir()) < LARGEST
    card = (SCORER / "README.md").read_text(encoding="utf-8")
    assert "not comparable with CLIP score" in " ".join(card.replace("*", "").split())
    assert all(word in card for word in ("Twemoji", "CC BY 4.0", "MIT", "Apache-2.0"))


def test_pictures_that_nobody_trained_on_find_their_names(scorer, pictures):
    names = ["red heart", "green square", "cat face", "clock", "flag: France", "blue circle"]
    texts = scorer.embed([f"{name}, flat" for name in names])
    ranks = own_ranks(scorer(pictures)["embedding"], texts, torch.tensor([0, 1]))
    assert ranks.tolist() == [0, 0]


def test_embeddings_have_length_1(scorer, pictures):
    for rows in (scorer(pictures)["embedding"], scorer.embed(["cat face, noto", "", "猫"])):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))


def test_the_order_of_words_counts(scorer):
    one, other = scorer.embed(["left arrow curving right, flat", "right arrow curving left, flat"])
    assert float((one - other).norm()) > 0.01


def test_features_are_those_of_lite0(scorer, pictures):
    found, lite0 = scorer(pictures), open_extractor("lite0-64")(pictures)
    torch.testing.assert_close(found["h1280"], lite0["h1280"])
    assert {name: rows.shape[1] for name, rows in found.items()} == scorer.dims


def test_distances_of_pixels_are_grey_levels(scorer):
    levels = torch.tensor([10, 50], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 128, 128)
    one, other = scorer(levels)["rgb32"]
    assert float((one - other).norm()) == pytest.approx(40, rel=1e-5)
    half = levels.clone()
    half[0, :, :, :64], half[1, :, :, :64] = 0, 0  # half of the pixels differ by 40
    one, other = scorer(half)["rgb32"]
    assert float((one - other).norm()) == pytest.approx(40 / 2**0.5, rel=0.02)


def test_long_texts_are_cut(scorer):
    ids = token_ids(scorer.tokenizer, ["cat face, noto", "word " * 500])
    assert ids.shape == (2, LENGTH) and bool((ids[1] > 0).all()) and int(ids[0, -1]) == 0
