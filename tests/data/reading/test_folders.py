"""What a folder of pictures means, to training and to evaluation alike."""

from pathlib import Path

import pytest

from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.images import decode
from gensynth.data.sources import open_source
from gensynth.errors import InputError, RefusedError, UsageError


def trained(folder: Path, **settings) -> dict[int, str]:
    """What training sees: the grey level of each picture, and the name of its class."""
    source = open_source(Data(source="imagefolder", path=str(folder), **settings))
    return {
        decode(row["image"]["path"], 1).getpixel((0, 0)): source.classes[row.get("label", 0)]
        for row in source.rows
    }


def evaluated(where, **settings) -> dict[int, str]:
    """The same as evaluation sees it."""
    images = open_images(str(where), **settings)
    labels = [images.labels(index) for index in range(images.length)]
    names = [images.classes[label] if images.classes else str(label) for label in labels]
    return {int(images.read(index)[0, 0, 0]): name for index, name in enumerate(names)}


def summary(folder: Path, **settings) -> str:
    return open_source(Data(source="imagefolder", path=str(folder), **settings)).summary


def test_numbers_of_folders_sort_as_numbers(lay_out):
    folder = lay_out(*[f"{number}/x.png" for number in range(12)])
    assert open_source(Data(source="imagefolder", path=str(folder))).classes == [
        str(number) for number in range(12)
    ]
    assert trained(folder) == evaluated(folder) == {number: str(number) for number in range(12)}


def test_folders_whose_numbers_have_gaps_keep_their_names(lay_out):
    folder = lay_out("200/x.png", "3/x.png", "2/x.png")
    assert open_source(Data(source="imagefolder", path=str(folder))).classes == ["2", "3", "200"]
    assert trained(folder) == evaluated(folder) == {0: "200", 1: "3", 2: "2"}


def test_one_and_nought_one_are_two_folders(lay_out):
    folder = lay_out("01/x.png", "1/x.png")
    assert trained(folder) == evaluated(folder) == {0: "01", 1: "1"}


@pytest.mark.parametrize("odd", ["cover.png", "dog/husky/y.png"])
def test_pictures_that_lie_differently_deep_are_named(lay_out, odd):
    folder = lay_out("cat/a.png", "cat/b.png", "dog/a.png", odd)
    for see in (trained, evaluated):
        with pytest.raises(InputError, match=f"{odd} .*class_level"):
            see(folder)


def test_the_advice_about_depth_works(lay_out):
    nested = lay_out("cat/a.png", "dog/husky/b.png", under="nested")
    expected = {0: "cat", 1: "dog"}
    assert trained(nested, class_level=1) == evaluated(nested, level=1) == expected
    loose = lay_out("cat/a.png", "cover.png", under="loose")
    assert trained(loose, class_level=0) == {0: "image", 1: "image"}
    assert open_images(str(loose), level=0).labels is None


def test_a_deeper_level_may_be_the_classes(lay_out):
    folder = lay_out("2023/cat/a.png", "2024/cat/a.png", "2024/dog/a.png")
    expected = {0: "cat", 1: "cat", 2: "dog"}
    assert trained(folder, class_level=2) == evaluated(folder, level=2) == expected
    assert trained(folder) == {0: "2023", 1: "2024", 2: "2024"}
    with pytest.raises(InputError, match=r"2023/cat/a\.png .* not lie 3 folders deep"):
        trained(folder, class_level=3)


def test_a_flat_folder_is_said_to_be_of_one_kind(lay_out):
    folder = lay_out("a.png", "b.png")
    assert summary(folder).startswith("2 pictures in 1 class (image). All are of one kind")
    assert open_images(str(folder)).summary.startswith("2 pictures without classes. All are")


def test_a_class_may_be_called_train(lay_out):
    folder = lay_out("bus/a.png", "car/a.png", "train/a.png", "car/test_0.png")
    expected = {0: "bus", 1: "car", 2: "train", 3: "car"}
    assert trained(folder) == evaluated(folder) == expected


SPLITS = ("train/cat/a.png", "train/dog/a.png", "val/cat/a.png")


def test_splits_side_by_side_ask_for_a_choice(lay_out):
    folder = lay_out(*SPLITS)
    with pytest.raises(UsageError, match=f"splits train, val. Choose one: {folder}:train"):
        evaluated(folder)
    assert evaluated(f"{folder}:train") == trained(folder) == {0: "cat", 1: "dog"}
    for named in ("val", "validation"):
        assert evaluated(f"{folder}:{named}") == trained(folder, split=named) == {2: "cat"}
    assert "Split train of train/, val/ (data.split" in summary(folder)
    assert "in val/: 1 (val/cat/a.png)" in summary(folder)
    with pytest.raises(InputError, match=r"splits train, val, not 'test'.*data\.split"):
        trained(folder, split="test")


def test_all_splits_together_and_slices_of_one(lay_out):
    folder = lay_out(*SPLITS)
    assert trained(folder, split="all") == {0: "cat", 1: "dog", 2: "cat"}
    assert trained(folder, split="train+val") == {0: "cat", 1: "dog", 2: "cat"}
    assert trained(folder, split="train[50%:]") == {1: "dog"}
    with pytest.raises(UsageError, match=r"data\.split"):
        trained(folder, split="train[:ten]")


def test_folders_called_like_splits_are_classes_if_they_are_named(lay_out):
    folder = lay_out("train/a.png", "test/a.png")
    assert trained(folder, classes=["test", "train"]) == {0: "train", 1: "test"}


def test_what_is_left_out_is_counted_with_its_reason(lay_out):
    folder = lay_out("cat/a.JPEG", "dog/b.png", ".thumbs/a.png", "@eaDir/x.png", "cat/.a.png")
    lay_out("cat/Thumbnails/a.png", "cat/Thumbnails/b.png", "grid.png")
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "cat" / "gone.png").symlink_to(folder / "nowhere")
    (folder / "cat" / "back").symlink_to(folder)
    (folder / "cat" / "machine").symlink_to("/")  # all of which would be read
    assert summary(folder) == open_images(str(folder)).summary
    for said in (
        "2 pictures in 2 classes (cat, dog)",
        "in hidden folders: 2 (.thumbs, @eaDir)",
        "in thumbnail folders: 2 (cat/Thumbnails)",
        "hidden files: 1 (cat/.a.png)",
        "an overview of other pictures: 1 (grid.png)",
        "other files: 1 (cat/notes.txt)",
        "links that lead nowhere: 1 (cat/gone.png)",
        "links to a folder around them: 2 (cat/back, cat/machine)",
    ):
        assert said in summary(folder)


def test_links_are_followed_and_those_that_lead_out_are_said(lay_out, tmp_path):
    folder = lay_out("cat/a.png")
    outside = lay_out("x.png", "y.png", under="elsewhere")
    (folder / "dog").symlink_to(outside)
    (folder / "kitten").symlink_to(folder / "cat")
    (folder / "loop").symlink_to(folder / "loop")
    source = open_source(Data(source="imagefolder", path=str(folder)))
    assert source.classes == ["cat", "dog", "kitten"]
    assert source.labels() == [0, 1, 1, 2]
    assert "2 of them through links that lead out of the folder" in source.summary
    assert open_images(str(folder)).summary == source.summary


def test_a_pipe_called_like_a_picture_is_not_waited_for(lay_out):
    import os

    folder = lay_out("cat/a.png")
    os.mkfifo(folder / "cat" / "b.png")
    assert "pipes or devices: 1 (cat/b.png)" in summary(folder)


ENDINGS = "png PNG jpg JpEg jfif jpe tif TIFF gif bmp webp avif ppm pgm tga jp2"


@pytest.mark.parametrize("ending", ENDINGS.split())
def test_every_usual_ending_is_read(tmp_path, encode, ending):
    from PIL import Image

    (tmp_path / "cat").mkdir()
    kind = Image.registered_extensions()[f".{ending.lower()}"]
    content = encode(Image.new("RGB", (8, 8), (9, 9, 9)), kind)
    (tmp_path / "cat" / f"a.{ending}").write_bytes(content)
    assert list(trained(tmp_path).values()) == ["cat"]
    assert abs(int(open_images(str(tmp_path)).read(0)[0, 0, 0]) - 9) <= 2


def test_brackets_and_stars_in_names_are_no_patterns(lay_out, numbered):
    folder = lay_out("cat [1]/a*.png", "dog/b?.png", under="set [v1]")
    assert trained(folder) == evaluated(folder) == {0: "cat [1]", 1: "dog"}
    assert open_images(f"{folder}/*/*.png").length == 2
    assert open_images(f"{folder}/cat [1]/a*.png").length == 1


def test_names_given_for_folders_are_theirs_or_stand_in_their_order(lay_out):
    folder = lay_out("cat/a.png", "dog/a.png")
    assert trained(folder, classes=["dog", "emu", "cat"]) == {0: "cat", 1: "dog"}
    assert trained(folder, classes=["Katze", "Hund"]) == {0: "Katze", 1: "Hund"}
    with pytest.raises(UsageError, match="leaves out the folder 'dog'"):
        trained(folder, classes=["cat", "emu"])


def test_a_run_that_goes_on_keeps_the_numbers_of_its_classes(lay_out):
    folder = lay_out("1/a.png", "2/a.png", "10/a.png")
    data = Data(source="imagefolder", path=str(folder))
    source = open_source(data, begun_with=["1", "10", "2"])  # as `datasets` sorted them
    assert source.classes == ["1", "10", "2"]
    levels = {decode(r["image"]["path"], 1).getpixel((0, 0)): r["label"] for r in source.rows}
    assert levels == {0: 0, 1: 2, 2: 1} and list(source.labels()) == [0, 1, 2]
    with pytest.raises(RefusedError, match=r"began with 1 classes .image."):
        open_source(data, begun_with=["image"])


def test_names_that_are_not_in_utf8_are_refused(lay_out):
    folder = lay_out("cat/a.png")
    (folder / "cat" / "a.png").rename(folder / "cat" / "\udcff.png")
    with pytest.raises(InputError, match="not in UTF-8"):
        trained(folder)
