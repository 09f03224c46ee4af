import pytest

from gensynth.data.files.image_set import open_images
from gensynth.errors import InputError


def test_members_without_a_label_have_none(tmp_path, numbered, write_tar):
    members = {"1.png": numbered(1), "1.cls": b"4", "2.png": numbered(2), "3.cls": b"5"}
    path = write_tar(tmp_path / "a.tar", members)
    assert open_images(str(path)).labels is None
    path = write_tar(tmp_path / "a.tar", {**members, "2.cls": b" 7\n"})
    assert [open_images(str(path)).labels(index) for index in (0, 1)] == [4, 7]


def test_names_in_cls_members_are_classes(tmp_path, numbered, write_tar):
    members = {"1.png": numbered(1), "1.cls": b"fly", "2.png": numbered(2), "2.cls": b"bee\n"}
    images = open_images(str(write_tar(tmp_path / "a.tar", members)))
    assert images.classes == ["bee", "fly"]
    assert [images.labels(index) for index in (0, 1)] == [1, 0]


def test_other_members_of_a_tar_are_passed_over(tmp_path, numbered, write_tar):
    name = "very/" * 30 + "long.seg.PNG"
    members = {"a.json": b"{}", "._a.png": b"junk", name: numbered(5), "a.txt": b"x"}
    images = open_images(str(write_tar(tmp_path / "a.tar", members)))
    assert images.length == 1 and int(images.read(0)[0, 0, 0]) == 5
    assert images.name_of(0) == f"{name} of {tmp_path / 'a.tar'}"


def test_the_same_key_in_two_archives_has_two_labels(tmp_path, numbered, write_tar):
    for number in (1, 2):
        members = {"x.png": numbered(number), "x.cls": b"%d" % number}
        write_tar(tmp_path / f"{number}.tar", members)
    for where in (str(tmp_path), f"{tmp_path}/*.tar"):
        images = open_images(where)
        assert [images.labels(index) for index in (0, 1)] == [1, 2]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar"])
@pytest.mark.parametrize("folder", [False, True])
def test_compressed_archives_are_refused_with_what_to_do(
    tmp_path, numbered, mode, name, folder, write_tar
):
    path = write_tar(tmp_path / name, {"1.png": numbered(1)}, mode)
    with pytest.raises(InputError, match=rf"is compressed.*tar -xf .*{name} -C FOLDER"):
        open_images(str(tmp_path if folder else path))


@pytest.mark.parametrize("damage", ["cut", "between", "text", "empty"])
def test_damaged_archives(tmp_path, numbered, damage, write_tar):
    path = write_tar(tmp_path / "a.tar", {f"{number}.png": numbered(1) for number in range(9)})
    data = path.read_bytes()
    damaged = {"cut": data[:1100], "between": data[:1024], "text": b"hello" * 200, "empty": b""}
    path.write_bytes(damaged[damage])
    with pytest.raises(InputError, match=r"a\.tar"):
        open_images(str(path))
