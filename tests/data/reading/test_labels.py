import io
import json
import math
import tarfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.reading.labels import Labels
from gensynth.data.sources import open_source
from gensynth.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("values", "classes", "numbers"),
    [
        (["dog", "cat", "dog"], ["cat", "dog"], [1, 0, 1]),
        (["10", "2", "n"], ["2", "10", "n"], [1, 0, 2]),
        ([0.0, 1.0, math.nan], ["0", "1"], [0, 1, None]),
        ([2, 0], ["0", "1", "2"], [2, 0]),
        (["2", "0.0", ""], ["0", "1", "2"], [2, 0, None]),
        ([20231104, 20240117], ["20231104", "20240117"], [0, 1]),
        ([999, 3], [str(n) for n in range(1000)], [999, 3]),
        ([True, False, None], ["0", "1"], [1, 0, None]),
        ([b"7\n", b" 3"], [str(n) for n in range(8)], [7, 3]),
        (["007", "12"], ["007", "12"], [0, 1]),
    ],
)
def test_values_become_classes(values, classes, numbers):
    labels = Labels(values)
    assert labels.classes == classes
    assert [labels.number(value) for value in values] == numbers


@pytest.mark.parametrize("value", [[0], [], (1, 2), {"a": 1}, 1.5, math.inf, b"\xff\xfe", 1j])
def test_what_is_no_label_is_refused_in_words(value):
    with pytest.raises(UsageError, match=r"one number or name for each picture.*label_column"):
        Labels([value])


def test_given_names_are_found_by_name_or_number():
    labels = Labels(["b", 0, 2.0], ["a", "b", "c"])
    assert [labels.number(value) for value in ("b", 0, 2.0)] == [1, 0, 2]
    assert Labels([30, 50], ["50", "30"]).number(30) == 1
    for value, message in (("bb", "Did you mean 'b'"), (3, "only 3 classes"), (-1, "label -1")):
        with pytest.raises(UsageError, match=message):
            Labels([value], ["a", "b", "c"])


def test_one_number_far_above_the_others_is_refused_and_the_advice_works():
    values = [0, 3, 10**9]
    with pytest.raises(UsageError, match="from 0 to 1000000000, but only 3") as caught:
        Labels(values)
    advice = yaml.safe_load(str(caught.value).partition("data.classes='")[2].rstrip("'."))
    labels = Labels(values, advice)
    assert [labels.classes[labels.number(value)] for value in values] == ["0", "3", "1000000000"]


def test_a_column_of_texts_is_no_classes():
    with pytest.raises(UsageError, match="100,001 different labels"):
        Labels([f"caption {number}" for number in range(100_001)])


@pytest.fixture
def table(tmp_path, numbered):
    """A Parquet file with these labels, in a folder with brackets."""

    def write(labels, name="a.parquet", column="label"):
        folder = tmp_path / "set [v1]"
        folder.mkdir(exist_ok=True)
        images = [numbered(number) for number in range(len(labels))]
        pq.write_table(pa.table({"image": images, column: labels}), folder / name)
        return folder / name

    return write


def both(kind, path, **settings):
    """Classes and labels that training and evaluation see."""
    source = open_source(Data(source=kind, path=str(path), **settings))
    images = open_images(str(path))
    trained = [source.rows[row]["label"] for row in range(len(source.rows))]
    assert trained == list(source.labels())
    assert [images.labels(index) for index in range(images.length)] == trained
    assert images.classes in (source.classes, None)
    return source.classes, trained


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["dog", "cat", "dog"], ["cat", "dog"], [1, 0, 1]),
        ([0.0, 1.0], ["0", "1"], [0, 1]),
        ([20231104, 20240117, 20231104], ["20231104", "20240117"], [0, 1, 0]),
        (["1", "0"], ["0", "1"], [1, 0]),
    ],
)
def test_labels_of_parquet_files(table, labels, classes, numbers):
    assert both("parquet", table(labels)) == (classes, numbers)


def test_rows_without_a_label_are_left_out_and_counted(table):
    path = table(["dog", None, "cat", ""])
    source = open_source(Data(source="parquet", path=str(path)))
    assert "2 pictures in 2 classes (cat, dog). Left out: without a label: 2 (row 1, row 3)" in (
        source.summary
    )
    assert source.rows[1]["label"] == 0 and source.rows[1]["image"]["bytes"]
    with pytest.raises(UsageError, match="not one of the pictures has a label"):
        open_source(Data(source="parquet", path=str(table([None, None], "b.parquet"))))


def test_lists_of_labels_are_refused_before_anything_is_read(table):
    for labels in ([[0], [1]], [{"a": 1}, {"a": 2}]):
        with pytest.raises(UsageError, match="has one class here"):
            open_source(Data(source="parquet", path=str(table(labels))))


def test_upper_case_endings_and_columns(table):
    path = table(["b", "a"], "A.PARQUET", "Label")
    assert both("parquet", path.parent) == (["a", "b"], [1, 0])


def test_streams_of_names_need_the_classes_and_then_number_them(table):
    data = Data(source="parquet", path=str(table(["dog", "cat"])), streaming=True)
    with pytest.raises(UsageError, match=r"Set data\.classes"):
        open_source(data)
    named = open_source(data.model_copy(update={"classes": ["cat", "dog"]}))
    assert [row["label"] for row in named.rows] == [1, 0]


def shard(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("label", [b"dog", b'{"label": "dog"}', b'{"class": "dog", "label": null}'])
def test_labels_of_webdatasets(tmp_path, encode, numbered, label):
    """Mixed formats, endings in upper case, names with dots, and labels as text or in .json."""
    from PIL import Image

    ending = "json" if label.startswith(b"{") else "CLS"
    other = json.dumps({"label": "cat"}).encode() if ending == "json" else b"cat\n"
    jpeg = encode(Image.new("L", (8, 8), 40), "JPEG")
    members = [
        ("x/img.0001.PNG", numbered(1)),
        (f"x/img.0001.{ending}", other),
        ("x/img.0002.jpg", jpeg),
        (f"x/img.0002.{ending}", label if b"null" not in label else b'{"label": "dog"}'),
    ]
    path = shard(tmp_path / "A.TAR", members)
    assert both("webdataset", path) == (["cat", "dog"], [0, 1])
    assert both("webdataset", tmp_path) == (["cat", "dog"], [0, 1])
    stream = Data(source="webdataset", path=str(path), streaming=True, classes=["cat", "dog"])
    assert [row["label"] for row in open_source(stream).rows] == [0, 1]


def test_a_sample_has_one_picture_and_the_rest_is_counted(tmp_path, numbered):
    members = [
        ("1.cls", b"0"),
        ("1.jpg", numbered(1)),
        ("1.mask.png", numbered(9)),
        ("1.png", numbered(8)),
        ("1.txt", b"a caption"),
        ("2.png", numbered(2)),
        ("3.cls", b"1"),
        ("3.webp", numbered(3)),
    ]
    source = open_source(Data(source="webdataset", path=str(shard(tmp_path / "a.tar", members))))
    assert [row["image"]["bytes"] for row in source.rows] == [numbered(1), numbered(3)]
    for said in (
        "further pictures of a sample: 2 (1.mask.png, 1.png)",
        "other files: 1 (1.txt)",
        "without a label: 1 (2.png)",
    ):
        assert said in source.summary
    images = open_images(str(tmp_path / "a.tar"))
    assert images.length == 3 and images.labels is None


def test_a_member_may_be_named_for_the_label_and_the_picture(tmp_path, numbered):
    members = [("1.seg.png", numbered(4)), ("1.png", numbered(1)), ("1.kind.txt", b"owl")]
    data = Data(source="webdataset", path=str(shard(tmp_path / "a.tar", members)))
    named = data.model_copy(update={"image_column": "seg.png", "label_column": "kind.txt"})
    source = open_source(named)
    assert source.classes == ["owl"] and source.rows[0]["image"]["bytes"] == numbered(4)
    with pytest.raises(UsageError, match="'species' is neither a member nor a key"):
        open_source(data.model_copy(update={"label_column": "species"}))


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (b'{"label": [0, 1]}', UsageError, "lists"),
        (b'{"label": ', InputError, r"1\.json of .*a\.tar is no JSON"),
        (b'{"label": -3}', UsageError, "whole numbers from 0"),
    ],
)
def test_labels_of_webdatasets_that_are_none(tmp_path, numbered, label, error, message):
    path = shard(tmp_path / "a.tar", [("1.json", label), ("1.png", numbered(1))])
    with pytest.raises(error, match=message):
        open_source(Data(source="webdataset", path=str(path)))


def test_class_names_of_the_hub_are_kept(tmp_path, numbered):
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["x", "y", "z"])}
    )
    columns = {"image": [{"bytes": numbered(1), "path": None}] * 2, "label": [2, None]}
    datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / "a.parquet")
    source = open_source(Data(source="parquet", path=str(tmp_path / "a.parquet")))
    assert source.classes == ["x", "y", "z"] and list(source.labels()) == [2]
