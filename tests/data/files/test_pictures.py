import json

import pytest
import torch
from PIL import Image

from gensynth.data.files.image_set import open_images
from gensynth.errors import InputError


def test_files_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.png", "2.png", "1.PNG", "b/3.png", "a9/1.png", "a10/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        level = len(list(tmp_path.rglob("*.*")))
        Image.new("L", (4, 4), level).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    for hidden in (".thumbs/1.png", ".1.png", "grid.png"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 99).save(tmp_path / hidden)
    images = open_images(str(tmp_path), level=0)
    found = [int(images.read(index)[0, 0, 0]) for index in range(images.length)]
    assert found == [2, 1, 0, 4, 5, 3]  # 1, 2, 10, a9, a10, b
    for said in ("6 pictures", "in hidden folders: 1 (.thumbs)", "other files: 1 (notes.txt)"):
        assert said in images.summary


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 7, [7, 7, 7]),
        ("I;16", 257 * 9, [9, 9, 9]),
        ("P", 3, [3, 3, 3]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("1", 1, [255, 255, 255]),
    ],
)
def test_modes_become_rgb(tmp_path, mode, color, expected):
    picture = Image.new(mode, (4, 4), color)
    if mode == "P":
        picture.putpalette([level for level in range(256) for _ in range(3)])
    picture.save(tmp_path / "a.png")
    read = open_images(str(tmp_path)).read(0)
    assert read.dtype == torch.uint8 and read.shape == (3, 4, 4)
    assert read[:, 0, 0].tolist() == expected


def test_labels_of_drawn_pictures_are_in_their_manifest(tmp_path, numbered):
    for number in range(3):
        (tmp_path / f"{number:06d}.png").write_bytes(numbered(number))
    lines = [json.dumps({"index": number, "label": 9 - number}) + "\n" for number in (2, 0, 1)]
    (tmp_path / "manifest.jsonl").write_text("".join(lines))
    images = open_images(str(tmp_path))
    assert [images.labels(index) for index in range(3)] == [9, 8, 7]
    (tmp_path / "000003.png").write_bytes(numbered(3))  # of nobody
    assert open_images(str(tmp_path)).labels is None


@pytest.mark.parametrize(
    ("folders", "labels", "classes"),
    [
        (("cat", "ant", "bee"), [0, 1, 2], ["ant", "bee", "cat"]),
        (("10", "2", "3"), [2, 3, 10], None),
    ],
)
def test_folders_are_classes(tmp_path, numbered, folders, labels, classes):
    for name in folders:
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "1.png").write_bytes(numbered(1))
    images = open_images(str(tmp_path))
    assert [images.labels(index) for index in range(3)] == labels
    assert images.classes == classes
    (tmp_path / "1.png").write_bytes(numbered(1))
    with pytest.raises(InputError, match=r"lie differently deep: 1\.png.*--class-level"):
        open_images(str(tmp_path))
    assert open_images(str(tmp_path), level=0).labels is None
