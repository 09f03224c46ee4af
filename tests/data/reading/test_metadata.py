import json

import pytest

from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.sources import open_source
from gensynth.errors import InputError, UsageError


def opened(folder, **settings):
    return open_source(Data(source="imagefolder", path=str(folder), **settings))


def test_labels_of_a_table_are_the_classes(lay_out):
    folder = lay_out("a.png", "deep/b.png", "c.png", "d.png")
    rows = "file_name,label,age\na.png,dog,3\ndeep\\b.png,cat,4\nc.png,,5\n"
    (folder / "metadata.csv").write_text("\ufeff" + rows)
    source = opened(folder)
    assert source.classes == ["cat", "dog"] and source.labels() == [1, 0]
    assert "without a label in the metadata: 2 (c.png, d.png)" in source.summary
    images = open_images(str(folder))
    assert images.classes == ["cat", "dog"] and images.length == 2
    assert {images.labels(index) for index in (0, 1)} == {0, 1}


def test_a_table_of_json_lines_lies_beside_its_pictures(lay_out):
    folder = lay_out("train/x/a.png", "train/x/b.png", "val/x/a.png")
    lines = [{"file_name": "a.png", "kind": 20231104}, {"file_name": "b.png", "kind": 20010203.0}]
    table = folder / "train" / "x" / "metadata.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)))
    source = opened(folder, label_column="kind")
    assert source.classes == ["20010203", "20231104"] and source.labels() == [1, 0]


def test_captions_are_said_to_be_unused_and_folders_stay_classes(lay_out):
    folder = lay_out("cat/a.png", "dog/a.png")
    (folder / "metadata.csv").write_text('file_name,text\ncat/a.png,"a cat, sitting"\n')
    source = opened(folder)
    assert source.classes == ["cat", "dog"] and source.labels() == [0, 1]
    assert "Captions (text) are not used" in source.summary


def test_a_table_of_something_else_is_left_out(lay_out):
    folder = lay_out("cat/a.png")
    (folder / "metadata.csv").write_text("id,label\n1,dog\n")
    source = opened(folder)
    assert source.classes == ["cat"] and "tables without a column file_name: 1" in source.summary


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "file_name,label\nz.png,cat\n", r"z\.png is named by a metadata table"),
        ("metadata.csv", "file_name,label\n../a.png,cat\n", "line 2: ../a.png lies outside"),
        ("metadata.csv", "file_name,label\n/etc/a.png,cat\n", "line 2: /etc/a.png lies outside"),
        ("metadata.csv", "file_name,label\na.png,a,b\n", "line 2: there are more values"),
        ("metadata.csv", 'file_name,label\n"a.png,a\n', "cannot be read"),
        ("metadata.csv", "file_name,label\na.png,a\na.png,b\n", "line 3: another row"),
        ("metadata.csv", "file_name,label\n,a\n", "line 2: file_name must be"),
        ("metadata.jsonl", '{"file_name": "a.png"', "cannot be read"),
        ("metadata.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("metadata.jsonl", "[" * 100_000, "cannot be read"),
        ("metadata.csv", b"file_name,label\na.png,\xff\n", "cannot be read"),
    ],
)
def test_damaged_tables_are_named(lay_out, name, text, message):
    folder = lay_out("a.png")
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for see in (opened, lambda path: open_images(str(path))):
        with pytest.raises(InputError, match=message):
            see(folder)


def test_a_column_that_is_not_there_is_refused(lay_out):
    folder = lay_out("a.png")
    with pytest.raises(UsageError, match=r"'kind' is not one of the columns: there is no metadata"):
        opened(folder, label_column="kind")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "labels": [1, 2]}\n')
    with pytest.raises(UsageError, match="'kind' is not one of the columns: labels"):
        opened(folder, label_column="kind")
    with pytest.raises(UsageError, match="lists"):
        opened(folder)
