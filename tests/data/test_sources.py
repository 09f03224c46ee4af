import io
import json
import tarfile
from collections import Counter

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gensynth.config import Data
from gensynth.data.images import decode
from gensynth.data.sources import open_source
from gensynth.errors import InputError, UsageError

FASHION = [
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def levels(source) -> list[int]:
    """The grey level of the first pixel of every image, in order."""
    return [
        decode(row["image"]["bytes"] or row["image"]["path"], 1).getpixel((0, 0))
        for row in source.rows
    ]


@pytest.fixture
def parquet(tmp_path, numbered):
    """A Parquet file of five numbered images, columns as asked."""

    def write(image="image", label="label", classes=None, name="a.parquet", labels=(0, 1, 2, 1, 0)):
        columns = {image: [{"bytes": numbered(n), "path": None} for n in range(5)]}
        features = {image: datasets.Image(decode=False)}
        if label:
            columns[label] = list(labels)
            features[label] = (
                datasets.ClassLabel(names=classes) if classes else datasets.Value("int64")
            )
        path = tmp_path / name
        datasets.Dataset.from_dict(columns, datasets.Features(features)).to_parquet(path)
        return path

    return write


@pytest.mark.parametrize(("split", "each"), [("train", 1000), ("test", 200)])
def test_the_bundled_set(split, each):
    source = open_source(Data(split=split))
    assert source.classes == FASHION
    assert Counter(source.rows["label"]) == dict.fromkeys(range(10), each)
    assert set(source.rows.column_names) == {"image", "label"}
    image = decode(source.rows[0]["image"]["bytes"], 1)
    assert image.size == (28, 28)


def test_the_bundled_set_has_two_splits():
    with pytest.raises(UsageError, match="train and test, not 'validation'"):
        open_source(Data(split="validation"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("image", "label"),
    [("image", "label"), ("img", "fine_label"), ("jpg", "cls"), ("png", "class")],
)
def test_usual_column_names_are_found(parquet, image, label, streaming):
    path = parquet(image, label, classes=["x", "y", "z"])
    source = open_source(Data(source="parquet", path=str(path), streaming=streaming))
    assert source.classes == ["x", "y", "z"]
    assert levels(source) == [0, 1, 2, 3, 4]
    assert [row["label"] for row in source.rows] == [0, 1, 2, 1, 0]


def test_unusual_column_names_can_be_given(parquet):
    path = parquet("picture", "kind")
    with pytest.raises(UsageError, match=r"picture, kind.*data\.image_column"):
        open_source(Data(source="parquet", path=str(path)))
    source = open_source(
        Data(source="parquet", path=str(path), image_column="picture", label_column="kind")
    )
    assert levels(source) == [0, 1, 2, 3, 4]
    assert source.classes == ["0", "1", "2"]


@pytest.mark.parametrize("key", ["image_column", "label_column"])
def test_a_column_that_is_not_there_is_refused(parquet, key):
    with pytest.raises(UsageError, match=f"data.{key} 'nope' is not one of image, label"):
        open_source(Data(source="parquet", path=str(parquet()), **{key: "nope"}))


def test_without_labels_there_is_one_class(parquet):
    source = open_source(Data(source="parquet", path=str(parquet(label=None))))
    assert source.classes == ["image"]
    assert source.rows.column_names == ["image"]


def test_class_names_can_be_given(parquet):
    data = Data(source="parquet", path=str(parquet()), classes=["p", "q", "r"])
    assert open_source(data).classes == ["p", "q", "r"]


@pytest.mark.parametrize("labels", [(0, 1, 2, 1, 0), (-1, 0, 1, 0, 0)])
def test_labels_outside_the_given_names_are_refused(parquet, labels):
    data = Data(source="parquet", path=str(parquet(labels=labels)), classes=["p", "q"])
    with pytest.raises(UsageError, match="classes"):
        open_source(data)


def test_labels_that_are_not_counted_from_zero_are_refused(parquet):
    with pytest.raises(UsageError, match="whole numbers"):
        open_source(Data(source="parquet", path=str(parquet(labels=(-1, 0, 1, 0, 0)))))


def test_a_stream_needs_names_for_its_classes(parquet):
    data = Data(source="parquet", path=str(parquet()), streaming=True)
    with pytest.raises(UsageError, match=r"Set data\.classes"):
        open_source(data)
    named = data.model_copy(update={"classes": ["a", "b", "c"]})
    assert levels(open_source(named)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("where", ["folder", "glob"])
def test_many_files_come_in_the_order_of_their_names(parquet, tmp_path, where):
    for name in ("b.parquet", "a.parquet"):
        parquet(name=name)
    path = tmp_path if where == "folder" else tmp_path / "*.parquet"
    assert levels(open_source(Data(source="parquet", path=str(path)))) == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("streaming", [False, True])
def test_an_image_folder_with_class_folders(tmp_path, numbered, streaming):
    for number, name in enumerate(["cat", "dog", "cat"]):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{number}.png").write_bytes(numbered(number))
    source = open_source(Data(source="imagefolder", path=str(tmp_path), streaming=streaming))
    assert source.classes == ["cat", "dog"]
    found = dict(zip(levels(source), [row["label"] for row in source.rows], strict=True))
    assert found == {0: 0, 1: 1, 2: 0}


def test_an_image_folder_without_class_folders(tmp_path, numbered):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(numbered(number))
    source = open_source(Data(source="imagefolder", path=str(tmp_path)))
    assert source.classes == ["image"]
    assert sorted(levels(source)) == [0, 1, 2]


@pytest.fixture
def tar(tmp_path, numbered):
    """A WebDataset shard: 000.png and 000.cls and so on."""

    def write(name="shard-0.tar", count=4):
        path = tmp_path / name
        with tarfile.open(path, "w") as archive:
            for number in range(count):
                for ending, data in (("png", numbered(number)), ("cls", str(number % 2).encode())):
                    member = tarfile.TarInfo(f"{number:03d}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        return path

    return write


@pytest.mark.parametrize("streaming", [False, True])
def test_webdataset(tar, streaming):
    data = Data(source="webdataset", path=str(tar()), classes=["even", "odd"], streaming=streaming)
    source = open_source(data)
    assert source.classes == ["even", "odd"]
    assert levels(source) == [0, 1, 2, 3]
    assert [row["label"] for row in source.rows] == [0, 1, 0, 1]


@pytest.mark.parametrize("source", ["parquet", "imagefolder", "webdataset"])
@pytest.mark.parametrize("path", ["nowhere", "nowhere/*.x"])
def test_nothing_there(tmp_path, source, path):
    with pytest.raises(InputError, match=r"there (is|are) no"):
        open_source(Data(source=source, path=str(tmp_path / path)))


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError):
        open_source(Data(source="imagefolder", path=str(tmp_path)))


def test_a_split_that_is_not_there(tmp_path, numbered):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.png").write_bytes(numbered(0))
    with pytest.raises(InputError, match=r"data\.split"):
        open_source(Data(source="imagefolder", path=str(tmp_path), split="validation"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_damaged_file_is_named_in_one_sentence(parquet, tar, kind, streaming, damage):
    path = parquet() if kind == "parquet" else tar()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3] if damage == "cut" else b"hello, this is text" * 90)
    if kind == "webdataset" and damage == "cut":
        path.write_bytes(data[:700])
    section = Data(source=kind, path=str(path), streaming=streaming, classes=["a", "b", "c"])
    with pytest.raises(InputError) as caught:
        list(open_source(section).rows)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400


def test_hub_names_are_refused_in_words_without_a_network():
    with pytest.raises(InputError, match="owner/name"):
        open_source(Data(source="hub", path="owner/name"))


def test_images_stay_encoded(parquet):
    row = open_source(Data(source="parquet", path=str(parquet()))).rows[0]
    assert row["image"]["bytes"].startswith(b"\x89PNG")


def test_a_parquet_file_without_our_metadata(tmp_path, numbered):
    """As other programs write it: a struct column or plain bytes, and nothing about features."""
    path = tmp_path / "plain.parquet"
    table = pa.table(
        {"image": [{"bytes": numbered(n), "path": "x"} for n in range(3)], "label": [0, 1, 0]}
    )
    assert json.dumps(table.schema.metadata) == "null"
    pyarrow.parquet.write_table(table, path)
    source = open_source(Data(source="parquet", path=str(path)))
    assert levels(source) == [0, 1, 2]
    assert source.classes == ["0", "1"]
    assert np.issubdtype(type(source.rows[0]["label"]), np.integer)


@pytest.mark.parametrize("split, counts", [("train", 3), ("test", 2), ("validation", None)])
def test_a_split_of_files_is_by_their_names(split, counts, tmp_path, numbered):
    table = {"image": [{"bytes": numbered(1), "path": None}], "label": [0]}
    for name in ("train-0", "train-1", "train-2", "test-0", "test-1"):
        pa.parquet.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    data = Data(source="parquet", path=f"{tmp_path}/*.parquet", split=split)
    if counts is None:
        with pytest.raises(UsageError, match=r"are of test, train, none of data.split validation"):
            open_source(data)
    else:
        assert len(open_source(data).rows) == counts


def test_an_image_is_named_by_its_file_where_it_has_one(tmp_path, numbered):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.png").write_bytes(numbered(1))
    source = open_source(Data(source="imagefolder", path=str(tmp_path)))
    assert source.name_of(0) == str(tmp_path / "a" / "one.png")
    assert open_source(Data()).name_of(7) == "row 7"


def test_a_row_without_an_image_is_named_by_its_number(tmp_path, numbered):
    table = {"image": [{"bytes": numbered(1), "path": None}, None], "label": [0, 0]}
    pa.parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    source = open_source(Data(source="parquet", path=str(tmp_path / "a.parquet")))
    assert source.rows[1]["image"] is None
    assert source.name_of(1) == "row 1"
