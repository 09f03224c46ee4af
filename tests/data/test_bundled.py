"""The data that come with the package."""

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.images import decode
from gensynth.data.sources import open_source
from gensynth.data.tables import BUNDLED_SETS
from gensynth.errors import UsageError
from gensynth.preflight.measuring import check_images

LARGEST = 12_000_000  # bytes


def emoji(**given) -> Data:
    return Data(source="emoji", size=64, **given)


def stored(split: str) -> list[dict]:
    table = pq.read_table(BUNDLED_SETS["emoji"] / f"{split}.parquet")
    return table.drop(["image"]).to_pylist()


def test_emoji_have_classes_captions_and_colour():
    source = open_source(emoji())
    assert len(source.rows) == 3824 and len(source.classes) == 98
    assert set(source.labels()) == set(range(98))  # none without a picture
    expected = [source.classes.index(row["subgroup"]) for row in stored("train")[:50]]
    assert source.labels()[:50] == expected
    pictures = [decode(row["image"]["bytes"]) for row in source.rows.select(range(50))]
    assert {(picture.mode, picture.size) for picture in pictures} == {("RGB", (64, 64))}
    grey = [
        all(low == high for low, high in [picture.convert("HSV").getextrema()[1]])
        for picture in pictures
    ]
    assert sum(grey) < 10
    captions = open_source(emoji(split="test"), texts=True).rows
    assert [row["text"] for row in captions.select(range(3))] == [
        [row["text"]] for row in stored("test")[:3]
    ]


def test_pairs_of_the_test_are_held_out_and_their_things_are_not():
    train, test = stored("train"), stored("test")
    assert not {row["text"] for row in train} & {row["text"] for row in test}
    styles = {row["style"] for row in test}
    assert styles == {"fluent", "flat", "blob"}
    named = {row["name"] for row in train}
    assert sum(row["name"] in named for row in test) == len(test) == 475


def test_another_column_may_be_the_classes():
    source = open_source(emoji(label_column="group", split="test"))
    assert len(source.classes) == 9 and "Food & Drink" in source.classes


def test_parts_and_names_of_splits():
    assert len(open_source(emoji(split="train[:300]")).rows) == 300
    images = open_images("emoji:test")
    assert images.length == open_images("emoji").length == 475
    assert tuple(images.read(0).shape) == (3, 64, 64) and not images.lossy
    check_images("emoji:train")
    with pytest.raises(UsageError, match="emoji has the splits train and test, not 'val'"):
        open_source(emoji(split="val"))
    with pytest.raises(ValidationError, match="emoji comes with the package"):
        emoji(path="emoji")


def test_it_stays_small():
    files = list(BUNDLED_SETS["emoji"].iterdir())
    assert sum(file.stat().st_size for file in files) < LARGEST
    assert "Copyright (c) Microsoft Corporation." in (BUNDLED_SETS["emoji"] / "LICENSE").read_text(
        encoding="utf-8"
    )
