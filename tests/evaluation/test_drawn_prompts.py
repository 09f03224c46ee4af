"""A model of texts is asked for prompts in turn; what it drew once is not drawn again."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from gensynth.conditions import Texts
from gensynth.data.files.image_set import open_images
from gensynth.errors import UsageError
from gensynth.evaluation import drawn
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.evaluation.evaluate import with_prompts
from gensynth.evaluation.request import Request
from gensynth.settings import Settings

PROMPTS = ["a, flat", "b, blob", "c, noto"]


class Painter:
    """Stands for a pipeline: the red of a picture is its prompt's first letter, green its seed."""

    def __init__(self, condition):
        self.condition, self.device, self.asked = condition, torch.device("cpu"), []

    def resolve(self, settings):
        return SimpleNamespace(size=(8, 8), settings=Settings())

    def draw(self, items, seeds, settings, on_step):
        self.asked += list(zip(items, seeds, strict=True))
        return [
            Image.new("RGB", (8, 8), (ord(item[0]), seed, 0))
            for item, seed in zip(items, seeds, strict=True)
        ]


@pytest.fixture
def painter():
    return Painter(Texts(8, examples=["x", "y"]))


def images_of(painter, num=5, **keywords):
    return DrawnImages(AtHand("painter", painter, "1"), num, batch_size=2, **keywords)


def test_prompts_come_in_turn(painter):
    images = images_of(painter, prompts=["  a,  flat", *PROMPTS[1:]], seed=10)
    assert images.texts == [*PROMPTS, *PROMPTS[:2]]
    assert images.classes is None and images.labels is None
    read = torch.cat([batch for _, batch in images.batches(range(5), 99)])
    assert read[:, 0, 0, 0].tolist() == [ord(text[0]) for text in images.texts]
    assert read[:, 1, 0, 0].tolist() == [10, 11, 12, 13, 14]


def test_a_picture_is_drawn_once(painter):
    images = images_of(painter, prompts=PROMPTS)
    first = {}
    for some, batch in images.batches([4, 0, 1], 9):
        first |= dict(zip(some.tolist(), batch, strict=True))
    for some, batch in images.batches([1, 2, 0, 3, 4], 9):
        for index, pixels in zip(some.tolist(), batch, strict=True):
            assert index not in first or torch.equal(first[index], pixels)
    assert sorted(seed for _, seed in painter.asked) == [0, 1, 2, 3, 4]


def test_what_does_not_fit_into_memory_is_drawn_again(painter, monkeypatch):
    monkeypatch.setattr(drawn, "MOST_KEPT", 2 * 3 * 8 * 8)
    images = images_of(painter, prompts=PROMPTS)
    for _ in range(2):
        read = torch.cat([batch for _, batch in images.batches(range(5), 9)])
        assert read[:, 1, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert len(painter.asked) == 5 + 3


def test_other_prompts_are_other_pictures(painter):
    one, other = (images_of(painter, prompts=some) for some in (PROMPTS, PROMPTS[::-1]))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == images_of(painter, num=9, prompts=PROMPTS).fingerprint


def test_without_prompts_the_models_own_examples_are_drawn(painter):
    assert images_of(painter, num=3).texts == ["x", "y", "x"]


def test_a_model_of_classes_takes_no_prompts():
    request = Request(model="dico-nano-fashion", reference="fashion_mnist:test", num=2)
    with pytest.raises(UsageError, match=r"takes no prompts; it knows classes such as T-shirt"):
        DrawnImages("dico-nano-fashion", 2, prompts=PROMPTS)
    assert request._prompts(reads_texts=False) is None


def test_the_captions_of_the_reference_are_the_prompts(tmp_path):
    for number, text in enumerate(PROMPTS):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(text)
    request = Request(model="any", reference=str(tmp_path))
    assert request._prompts(reads_texts=True) == PROMPTS
    (tmp_path / "other.txt").write_text("d\n")
    told = Request(model="any", reference=str(tmp_path), prompts=str(tmp_path / "other.txt"))
    assert told._prompts(reads_texts=True) == ["d"]


def test_a_reference_without_captions_says_what_to_give():
    request = Request(model="any", reference="imagenet256")
    with pytest.raises(UsageError, match=r"holds statistics and no captions.*--prompts FILE"):
        request._prompts(reads_texts=True)
    with pytest.raises(UsageError, match=r"have no captions; give .* --prompts FILE"):
        Request(model="any", reference="fashion_mnist:test")._prompts(reads_texts=True)


def test_prompts_of_samples_are_written_as_captions_are(tmp_path):
    for number, text in enumerate(["cafe\u0301,  red", "caf\u00e9,\u00a0blue"]):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(text)
    (tmp_path / "prompts.txt").write_text("caf\u00e9,  red\ncafe\u0301, blue\n")
    images = open_images(str(tmp_path))
    told = with_prompts(images, str(tmp_path / "prompts.txt"))
    assert images.texts == told.texts == ["caf\u00e9, red", "caf\u00e9, blue"]
