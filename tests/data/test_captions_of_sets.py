"""Captions of images to compare, wherever they stand."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from gensynth.data.files.image_set import open_images


def png(level):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    return tmp_path


def test_of_a_table_the_first_caption_counts(tmp_path):
    images = [{"bytes": png(n), "path": None} for n in range(3)]
    rows = {"image": images, "caption": [["a cat", "a pet"], [], [" a dog "]]}
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "some.parquet")
    assert open_images(str(tmp_path / "some.parquet")).texts == ["a cat", "", "a dog"]


def test_rows_that_are_left_out_take_their_captions_along(tmp_path):
    images = [{"bytes": png(n), "path": None} for n in range(3)]
    rows = {"image": images, "text": ["a", "b", "c"], "label": ["x", None, "y"]}
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "some.parquet")
    found = open_images(str(tmp_path / "some.parquet"))
    assert found.texts == ["a", "c"] and found.read(1)[0, 0, 0] == 2


@pytest.mark.parametrize("column", [[1, 2], [None, None], ["", " "]])
def test_a_column_that_says_nothing_is_none(tmp_path, column):
    images = [{"bytes": png(n), "path": None} for n in range(2)]
    pyarrow.parquet.write_table(pa.table({"image": images, "text": column}), tmp_path / "a.parquet")
    assert open_images(str(tmp_path / "a.parquet")).texts is None


def test_of_a_folder(folder):
    assert open_images(str(folder)).texts is None
    (folder / "2.txt").write_text("a red square\nthe same in other words\n", encoding="utf-8")
    assert open_images(str(folder)).texts == ["", "", "a red square"]


def test_of_what_gensynth_drew(folder):
    lines = [{"index": n, "prompt": f"prompt {n}"} for n in range(3)]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert open_images(str(folder)).texts == ["prompt 0", "prompt 1", "prompt 2"]


def test_of_tars(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("x.png", png(1)), ("x.txt", b"an x"), ("y.png", png(2))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert open_images(str(tmp_path / "a.tar")).texts == ["an x", ""]


def test_an_array_has_none():
    assert open_images("fashion_mnist:test").texts is None
