import io
import os
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gensynth.data.files.image_set import open_images
from gensynth.errors import InputError, OutputError

COUNT, SIDE = 7, 8


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """uint8 [7, 8, 8, 3], each image with a noise of its own."""
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def deflated(tmp_path, pixels):
    path = tmp_path / "deflated.npz"
    np.savez_compressed(path, pixels)
    return path


def test_an_array_is_not_read_as_a_whole(tmp_path):
    array = np.arange(64, dtype=np.uint8)[:, None, None, None] * np.ones((256, 256, 3), np.uint8)
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), arr_0=array)
    assert array.nbytes > 12e6
    tracemalloc.start()
    images = open_images(str(tmp_path / "a.npz"))
    assert images.read(63)[0, 0, 0] == 63
    assert [batch.shape[0] for _, batch in images.batches([5, 50])] == [2]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


@pytest.fixture
def temporary(monkeypatch):
    """The folder for temporary files. Its name is short: processes put their sockets there."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_deflated_array_is_unpacked_once_and_removed(temporary, deflated):
    folder = temporary
    images = open_images(str(deflated))
    assert not list(folder.iterdir())
    assert len(list(images.batches(range(COUNT), 2, workers=2))) == 4
    assert len(list(folder.iterdir())) == 1
    images.read(6)
    assert len(list(folder.iterdir())) == 1
    del images
    assert not list(folder.iterdir())


def test_no_space_to_unpack(tmp_path, monkeypatch, deflated):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"cannot unpack .*deflated\.npz.*TMPDIR"):
        open_images(str(deflated)).read(0)


def test_grey_arrays_stay_grey(tmp_path):
    np.savez(tmp_path / "a.npz", np.full((2, 4, 4, 1), 9, np.uint8))
    assert open_images(str(tmp_path / "a.npz")).read(1).tolist() == [[[9] * 4] * 4]
    assert open_images(str(tmp_path / "a.npz"), size=2).read(1).shape == (1, 2, 2)


@pytest.mark.parametrize("labels", [np.zeros((2, 10), np.int64), np.zeros(2), np.zeros(3, int)])
def test_a_second_array_that_is_no_labels(tmp_path, labels):
    np.savez(tmp_path / "a.npz", np.zeros((2, 4, 4, 3), np.uint8), labels)
    assert open_images(str(tmp_path / "a.npz")).labels is None


IMAGES = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "stored",
    [
        {"arr_0": np.full((4, 8, 8, 3), np.nan, np.float32)},
        {"arr_0": IMAGES[0]},
        {"arr_0": np.zeros((4, 8, 8, 2), np.uint8)},
        {"arr_0": np.asfortranarray(IMAGES)},
        {"arr_0": np.uint8(3)},
        {"images": IMAGES},
    ],
    ids=["float", "one picture", "two channels", "Fortran", "a number", "other name"],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_that_are_not_pictures(tmp_path, stored, save):
    save(tmp_path / "a.npz", **stored)
    with pytest.raises(InputError, match=r"a\.npz.*arr_0"):
        open_images(str(tmp_path / "a.npz"))


def test_an_empty_array(tmp_path):
    np.savez(tmp_path / "a.npz", IMAGES[:0])
    with pytest.raises(InputError, match="no pictures"):
        open_images(str(tmp_path / "a.npz"))


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


@pytest.mark.parametrize("name", ["arr_0", "arr_1"])
def test_a_pickle_in_an_array_is_refused_and_not_run(tmp_path, name):
    touched = tmp_path / "touched"
    arrays = {"arr_0": IMAGES, name: np.array([Touch(touched)], dtype=object)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=rf"a\.npz: {name} is a pickle"):
        open_images(str(tmp_path / "a.npz"))
    assert not touched.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "npy"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_arrays(tmp_path, pixels, damage, save):
    path = tmp_path / "a.npz"
    save(path, pixels)
    data = path.read_bytes()
    if damage == "npy":
        with path.open("wb") as stream:
            np.save(stream, IMAGES)
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(InputError, match=r"a\.npz cannot be read"):
        open_images(str(path))


def test_a_header_that_promises_more_images(tmp_path, pixels):
    content = io.BytesIO()
    np.save(content, pixels)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("arr_0.npy", content.getvalue().replace(b"(7, 8, 8, 3)", b"(9, 8, 8, 3)"))
    with pytest.raises(InputError, match="arr_0 is cut off"):
        open_images(str(tmp_path / "a.npz"))


def test_deflated_values_that_are_damaged(tmp_path, pixels):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, pixels)
    data = bytearray(path.read_bytes())
    data[600:700] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(InputError, match="arr_0 is damaged"):
        open_images(str(path)).read(0)


def test_an_array_that_shrinks_while_it_is_read(tmp_path, pixels):
    path = tmp_path / "a.npz"
    np.savez(path, pixels)
    images = open_images(str(path))
    os.truncate(path, 400)
    with pytest.raises(InputError, match="cut off at row 6"):
        images.read(6)
