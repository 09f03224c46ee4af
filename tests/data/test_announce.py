import numpy as np
import pytest
from PIL import Image

from gensynth.config import Data
from gensynth.data.announce import announced, surprises
from gensynth.data.sources import open_source


@pytest.fixture
def folder(tmp_path, encode):
    """Two pictures of 32 x 32 pixels and this colour."""

    def write(*colour):
        pixels = np.full((32, 32, 3), 90, np.uint8)
        pixels[:16] = colour
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "a.png").write_bytes(encode(pixels))
        return tmp_path

    return write


def warnings(folder, **settings) -> list[str]:
    data = Data(source="imagefolder", path=str(folder), **settings)
    return list(surprises(open_source(data), data))


def test_colours_that_would_be_lost_are_said_with_the_remedy(folder):
    [warning] = warnings(folder(200, 30, 30), channels=1)
    assert "in colour" in warning and "data.channels=3" in warning
    assert warnings(folder(200, 30, 30), channels=3) == []
    assert warnings(folder(80, 81, 80), channels=1) == []  # grey in three channels


@pytest.mark.parametrize(
    ("size", "fit", "words"),
    [
        (256, "crop", "enlarged to data.size 256"),
        (64, "pad", "surrounded with black to data.size 64"),
        (63, "crop", None),
        (32, "pad", None),
    ],
)
def test_a_size_far_above_that_of_the_pictures_is_said(folder, size, fit, words):
    found = warnings(folder(0, 0, 0), size=size, fit=fit)
    assert ([words in text and "about 32 pixels" in text for text in found] or [None]) == (
        [True] if words else [None]
    )


def test_what_was_read_is_said_before_anything_else(folder, capsys):
    data = Data(source="imagefolder", path=str(folder(200, 0, 0)), channels=1)
    source = open_source(data)
    assert announced(source, data) is source
    said = capsys.readouterr()
    first, second = said.err.splitlines()
    assert said.out == "" and first == "data: 2 pictures in 2 classes (cat, dog)."
    assert second.startswith("warning: the pictures are in colour")


def test_unreadable_pictures_and_the_bundled_set_are_looked_at(folder):
    place = folder(9, 9, 9)
    (place / "cat" / "a.png").write_bytes(b"nothing")
    assert warnings(place, channels=1) == []
    data = Data(channels=1, fit="pad")
    assert list(surprises(open_source(data), data)) == []


def test_many_classes_are_not_all_named(tmp_path, encode):
    content = encode(Image.new("L", (8, 8)))
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "a.png").write_bytes(content)
    summary = open_source(Data(source="imagefolder", path=str(tmp_path))).summary
    assert summary == "30 pictures in 30 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...)."
