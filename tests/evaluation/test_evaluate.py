"""From names to a report: what a user gives, and what the report says."""

import json

import numpy as np
import pytest
from PIL import Image

from gensynth.data.files.pictures import Rows
from gensynth.errors import InputError, RefusedError, UsageError
from gensynth.evaluation.evaluate import Fit, evaluate
from gensynth.evaluation.measuring.features import Effort

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


def evaluated(samples, reference, *arguments, **keywords):
    """The report of an evaluation of distances."""
    _, report = evaluate(samples, str(reference), *arguments, metrics=["frechet"], **keywords)
    return report


@pytest.fixture(scope="module")
def report(sets):
    return evaluated(sets / "samples", sets / "reference")


def headline(report):
    return next(score for score in report["scores"] if score["key"] == report["headline"])


def test_folder_and_array_give_the_same_numbers(sets, report):
    other = evaluated(sets / "samples.npz", sets / "reference.npz")
    for one, two in zip(report["scores"], other["scores"], strict=True):
        assert two["value"] == pytest.approx(one["value"], rel=1e-5)


def test_the_report_says_what_was_compared(sets, report):
    assert headline(report)["name"] == "FD(lite0-64 s112)"
    assert headline(report)["value"] > 0
    samples, reference = report["samples"], report["reference"]
    assert (samples["count"], reference["count"]) == (COUNT, COUNT)
    assert (samples["name"], reference["name"]) == tuple(
        str(sets / name) for name in ("samples", "reference")
    )
    assert report["floor_of"] is None  # for which the reference would have to be larger
    assert report["extractor"]["name"] == "lite0-64" and len(reference["sha256"]) == 64
    assert report["versions"].keys() == {"gensynth", "torch", "numpy", "pillow", "python"}
    json.dumps(report, allow_nan=False)


def test_a_number_of_samples_and_progress(sets):
    ticks = []
    report = evaluated(sets / "samples", sets / "reference", 3, effort=Effort(tick=ticks.append))
    assert report["samples"]["count"] == 3 and report["samples"]["available"] == COUNT
    assert sum(ticks) == 3 + COUNT
    assert report["floor_of"].startswith("3 images")


def test_more_samples_than_there_are(sets):
    report = evaluated(sets / "samples", sets / "reference", 1000)
    said = f"1,000 samples were asked for, and {sets / 'samples'} has 12: all were used"
    assert said in report["warnings"]
    assert f"is not known: the reference has {COUNT} images" in " ".join(report["warnings"])


def test_samples_that_are_the_reference(sets):
    score = headline(evaluated(sets / "samples", sets / "samples", 3))
    same = headline(evaluated(sets / "samples", sets / "samples"))
    assert same["value"] == pytest.approx(0, abs=1e-2)
    assert same["value"] < score["value"] and same["floor"] is None
    assert score["floor"] > 0


def test_a_reference_of_equal_pictures_has_a_floor_of_0(sets, tmp_path):
    np.savez(tmp_path / "flat.npz", np.full((8, 32, 32, 1), 7, np.uint8))
    report = evaluated(sets / "samples", tmp_path / "flat.npz", 2)
    assert headline(report)["floor"] == pytest.approx(0, abs=1e-6)
    json.dumps(report, allow_nan=False)


def test_fashion_mnist_has_a_floor_of_its_other_split(sets, monkeypatch, tmp_path):
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    monkeypatch.setattr(Rows, "__len__", lambda rows: 40)  # of 10,000 and 60,000
    report = evaluated(sets / "samples", "fashion_mnist:test", 4)
    assert report["floor_of"] == "4 images of fashion_mnist:train"


def test_a_floor_of_images_that_are_given(sets):
    report = evaluated(sets / "samples", sets / "reference", floor=str(sets / "samples"))
    assert report["floor_of"] == f"{COUNT} images of {sets / 'samples'}"
    assert headline(report)["floor"] == pytest.approx(headline(report)["value"], rel=1e-9)


def test_a_reference_file(sets, report, tmp_path):
    from gensynth.data.files.image_set import open_images
    from gensynth.evaluation.measuring.measure import make_reference
    from gensynth.evaluation.references.reference import write_reference
    from gensynth.metrics.extractors import open_extractor

    made = make_reference(open_images(str(sets / "reference")), open_extractor("lite0-64"))
    path = tmp_path / "reference.npz"
    write_reference(path, made.statistics, made.features, made.meta)
    again = evaluated(sets / "samples", path)
    assert headline(again)["value"] == pytest.approx(headline(report)["value"], rel=1e-6)
    assert again["reference"]["images_sha256"] == report["reference"]["images_sha256"]
    floor = sets / "samples"
    with_floor = evaluated(sets / "samples", path, floor=str(floor), fit=Fit(32))
    assert with_floor["floor_of"] == f"{COUNT} images of {floor}"
    assert headline(with_floor)["floor"] == pytest.approx(headline(report)["value"], rel=1e-6)
    with pytest.raises(UsageError, match=r"reference.npz is a reference .* not samples"):
        evaluated(path, sets / "reference")
    with pytest.raises(UsageError, match="--size cannot change"):
        evaluated(sets / "samples", path, fit=Fit(16))
    with pytest.raises(RefusedError, match="was made with lite0-64"):
        evaluated(sets / "samples", path, extractor="lite0-128")


def test_samples_of_another_size_than_the_reference(sets, tmp_path):
    (tmp_path / "large").mkdir()
    for path in (sets / "samples").iterdir():
        Image.open(path).resize((64, 64)).save(tmp_path / "large" / path.name)
    [said] = [
        text
        for text in evaluated(tmp_path / "large", sets / "reference")["warnings"]
        if "size" in text
    ]
    assert "samples are 64x64, images of the reference 32x32" in said and "--size 64" in said
    brought = evaluated(tmp_path / "large", sets / "reference", fit=Fit(64))["warnings"]
    assert not [text for text in brought if "size" in text]


def test_a_reference_file_that_is_not_there(sets):
    with pytest.raises(InputError, match=r"nothere.npz .*images, or a file of statistics"):
        evaluated(sets / "samples", "nothere.npz")


@pytest.mark.parametrize("num", [0, 1, -3])
def test_too_few_samples_are_refused(sets, num):
    with pytest.raises(UsageError, match="at least 2 samples"):
        evaluated(sets / "samples", sets / "reference", num)
