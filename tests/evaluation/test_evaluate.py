import json

import numpy as np
import pytest
from PIL import Image

from gensynth.errors import InputError, UsageError
from gensynth.evaluation.evaluate import HEADLINE, evaluate, subset, summary, write_report
from gensynth.evaluation.sources import open_images

COUNT = 12


@pytest.fixture(scope="module")
def sets(tmp_path_factory, fashion):
    """The same twelve pictures as a folder and as an array, and a reference of twelve others."""
    root = tmp_path_factory.mktemp("sets")
    arrays = fashion[: 2 * COUNT].permute(0, 2, 3, 1).numpy()
    for name, part in (("samples", arrays[:COUNT]), ("reference", arrays[COUNT:])):
        (root / name).mkdir()
        for number, pixels in enumerate(part):
            Image.fromarray(pixels[..., 0]).save(root / name / f"{number}.png")
        np.savez(root / f"{name}.npz", part, np.zeros(COUNT, np.int64))
    return root


@pytest.fixture(scope="module")
def report(sets):
    return evaluate(sets / "samples", str(sets / "reference"))


def test_folder_and_array_give_the_same_number(sets, report):
    other = evaluate(sets / "samples.npz", str(sets / "reference.npz"))
    for stage, score in report["stages"].items():
        assert other["stages"][stage] == pytest.approx(score, rel=1e-5)


def test_the_report_says_what_was_compared(sets, report):
    assert report["metric"] == "FD(lite0-64)"
    assert report["value"] == report["stages"][HEADLINE]["value"] > 0
    assert report["ratio"] == pytest.approx(report["value"] / report["floor"])
    assert (report["num_samples"], report["num_reference"]) == (COUNT, COUNT)
    assert report["floor_of"] == f"6 images of {sets / 'reference'} against its other 6"
    assert report["samples"] == str(sets / "samples")
    json.dumps(report, allow_nan=False)


def test_few_samples_are_warned_of(report):
    assert report["warnings"] == ["12 samples are too few for a reliable number; use 1000 or more"]
    assert "warning: 12 samples are too few" in summary(report)
    assert f"(floor {report['floor']:.2f}" in summary(report)


def test_a_report_on_disk(report, tmp_path):
    write_report(report, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_number_of_samples_and_progress(sets):
    ticks = []
    report = evaluate(sets / "samples", str(sets / "reference"), num=5, tick=ticks.append)
    assert report["num_samples"] == 5
    assert sum(ticks) == 5 + COUNT + COUNT
    assert report["floor_of"].startswith("5 images")


def test_samples_that_are_the_reference(sets):
    report = evaluate(sets / "samples", str(sets / "samples"))
    assert report["value"] == pytest.approx(0, abs=1e-2)
    assert report["value"] < report["floor"]


def test_a_reference_of_equal_pictures_has_no_ratio(sets, tmp_path):
    np.savez(tmp_path / "flat.npz", np.full((8, 32, 32, 1), 7, np.uint8))
    report = evaluate(sets / "samples", str(tmp_path / "flat.npz"))
    assert report["floor"] == pytest.approx(0, abs=1e-6)
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("num", [0, 1, -3])
def test_too_few_samples_are_refused(sets, num):
    with pytest.raises(UsageError, match="at least 2 samples"):
        evaluate(sets / "samples", str(sets / "reference"), num=num)


def test_subsets_are_stable_and_sorted():
    chosen = subset(100, 10)
    assert chosen == subset(100, 10) == sorted(set(chosen))
    assert len(chosen) == 10
    assert chosen != list(range(10))
    assert subset(5, 10) == [0, 1, 2, 3, 4]


def test_unlike_sizes_are_refused_with_a_hint(tmp_path):
    for number, size in enumerate([8, 16]):
        Image.new("L", (size, size)).save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match=r"differ in size.*--size N"):
        list(open_images(str(tmp_path)).batches([0, 1]))
    (batch,) = open_images(str(tmp_path), size=8).batches([0, 1])
    assert batch.shape == (2, 3, 8, 8)


def test_files_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 1):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    images = open_images(str(tmp_path))
    assert [int(images.read(index)[0, 0, 0]) for index in range(images.length)] == [1, 2, 10]


@pytest.mark.parametrize("where", ["nowhere", "nowhere.npz", "nowhere.parquet", ""])
def test_nothing_there(where, tmp_path):
    with pytest.raises(InputError, match="no images"):
        open_images(str(tmp_path / where) if where else "./nowhere")


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        open_images(str(tmp_path))


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png cannot be read"):
        list(open_images(str(tmp_path)).batches([0]))


PICTURES = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "stored",
    [
        {"arr_0": PICTURES.astype(np.float32)},
        {"arr_0": PICTURES[0]},
        {"arr_0": np.zeros((4, 8, 8, 2), np.uint8)},
        {"images": PICTURES},
    ],
    ids=["float", "one picture", "two channels", "other name"],
)
def test_arrays_that_are_not_pictures(tmp_path, stored):
    np.savez(tmp_path / "a.npz", **stored)
    with pytest.raises(InputError, match=r"a\.npz.*arr_0"):
        open_images(str(tmp_path / "a.npz"))


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_a_pickle_in_an_array_is_refused_and_not_run(tmp_path):
    touched = tmp_path / "touched"
    np.savez(tmp_path / "a.npz", np.array([Touch(touched)], dtype=object))
    with pytest.raises(InputError, match=r"a\.npz"):
        open_images(str(tmp_path / "a.npz"))
    assert not touched.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "npy"])
def test_damaged_arrays(tmp_path, damage):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8))
    data = path.read_bytes()
    if damage == "npy":
        with path.open("wb") as stream:
            np.save(stream, PICTURES)
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(InputError, match=r"a\.npz"):
        open_images(str(path))


def test_fashion_mnist_by_name():
    images = open_images("fashion_mnist:test")
    assert images.length == 2000
    assert images.read(0).shape == (1, 32, 32)
    with pytest.raises(UsageError, match="splits train and test"):
        open_images("fashion_mnist:validation")


def test_a_parquet_file_needs_a_size(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="--size N"):
        open_images(str(path))
