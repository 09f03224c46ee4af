"""What a report warns of, what numbers may be called, and how they are printed."""

import dataclasses
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from gensynth.errors import OutputError
from gensynth.evaluation.measuring.measures import Score, frechet_name
from gensynth.evaluation.measuring.rounding import rounded, with_error
from gensynth.evaluation.report.report import (
    METRICS_FILE,
    describe,
    print_report,
    summary,
    warnings_of,
    write_report,
)
from gensynth.metrics.extractors import open_extractor

INCEPTION = {"pool": 2048, "spatial": 2023, "logits": 1008}


KNOWN = SimpleNamespace(meta={"extractor_fingerprint": "1234"})


def space(name="inception-2015", official=True, dims=INCEPTION):
    return SimpleNamespace(name=name, official=official, dims=dims)


def changed(measured, count=None, reference=None, **changes):
    """What was measured, with other counts."""
    if count is not None:
        changes["files"] = SimpleNamespace(count=count)
    if reference is not None:
        changes["reference"] = SimpleNamespace(meta={"count": reference} | KNOWN.meta)
    return dataclasses.replace(measured, **changes)


@pytest.mark.parametrize(
    ("extractor", "count", "name"),
    [
        (space(), 50_000, "FID-50K"),
        (space(), 49_999, "FID@N=49,999"),
        (space(official=False), 50_000, "FD(inception-2015 pool)"),
        (space("random-inception-3", official=False), 50_000, "FD(random-inception-3 pool)"),
        (space("inception-2015-clean"), 50_000, "clean-FID@N=50,000"),
        (space("dinov2-vitl14", dims={"cls": 1024}), 50_000, "FD(dinov2-vitl14)"),
    ],
)
def test_what_may_be_called_fid(extractor, count, name):
    key, feature = ("fd", "cls") if "cls" in extractor.dims else ("fid", "pool")
    assert frechet_name(extractor, key, feature, count, KNOWN) == name


@pytest.mark.parametrize(
    ("meta", "name"),
    [({"verified": True}, "FID-50K"), ({"verified": False}, "FID@N=50,000"), ({}, "FID@N=50,000")],
)
def test_a_reference_of_unknown_origin(evaluated, meta, name):
    reference = SimpleNamespace(meta=meta)
    assert frechet_name(space(), "fid", "pool", 50_000, reference) == name
    said = warnings_of(dataclasses.replace(evaluated[0], extractor=space(), reference=reference))
    assert ("does not say" in "\n".join(said)) == (name != "FID-50K")


def test_the_offline_and_the_random_space_are_never_called_fid(evaluated):
    _, report = evaluated
    assert "FID" not in json.dumps(report)
    random = open_extractor("random-inception-1")
    assert not random.official and "FID" not in frechet_name(random, "fid", "pool", 50_000, KNOWN)


def test_few_samples_are_warned_of(evaluated):
    measured, report = evaluated
    warning = "80 samples are too few for a reliable number; use 1,000"
    assert report["warnings"] == [warning]
    assert list(warnings_of(changed(measured, 1000))) == []


def test_published_numbers_are_of_50_000(evaluated):
    found = changed(evaluated[0], 10_000, 10_000, extractor=space())
    assert list(warnings_of(found)) == ["10,000 samples; published numbers are of 50,000"]
    assert list(warnings_of(changed(found, 50_000))) == []
    assert list(warnings_of(changed(found, 4095))) == [
        "unreliable: 4,095 samples for features of 2,048 dimensions"
    ]
    assert list(warnings_of(changed(found, 50_000, 4000))) == [
        "unreliable: 4,000 reference images for 2,048 dimensions"
    ]


def test_other_weights_copies_loss_and_order_are_warned_of(evaluated):
    score = Score("is", "IS", 10.0, "higher", details={"in_file_order": 5.0})
    lossy = SimpleNamespace(lossy=True, length=50_000)
    found = changed(
        evaluated[0],
        50_000,
        10_000,
        extractor=space(official=False),
        samples=lossy,
        copies=3,
        scores=[score],
    )
    said = "\n".join(warnings_of(found))
    for words in ("this is not FID", "3 samples are copies", "JPEG", "in an order", "5.00"):
        assert words in said
    score.details["in_file_order"] = 9.9
    assert "in an order" not in "\n".join(warnings_of(found))


def test_the_summary_has_error_and_floor(evaluated):
    _, report = evaluated
    score = next(s for s in report["scores"] if s["key"] == "fd_s112")
    beginning = (
        f"FD(lite0-64 s112) = {with_error(score['value'], score['standard_error'])} (real images "
        f"score {score['floor']:.2f}"
    )
    assert summary(report) == f"{beginning})"  # of too few samples
    ratio = f"{score['value'] / score['floor']:.1f} times that"
    assert summary({**report, "too_few_samples": False}) == f"{beginning}; this is {ratio})"
    alone = {"headline": report["headline"], "scores": report["scores"]}
    assert summary(alone) == f"{beginning}; this is {ratio})"


def test_fewer_samples_than_asked_for_are_warned_of(evaluated):
    assert list(warnings_of(changed(evaluated[0], 1000, asked=1000))) == []
    [said] = warnings_of(changed(evaluated[0], 1000, asked=50_000))
    assert said == (
        "50,000 samples were asked for, and drawn with <b>noise</b> & more has 1,000: all were used"
    )


@pytest.mark.parametrize("sizes", [{}, {"reference": (64, 64)}, {"samples": (32, 32)}])
def test_images_of_one_size_or_of_unknown_are_not_warned_of(evaluated, sizes):
    sizes = {"samples": (64, 64), **sizes}
    assert list(warnings_of(changed(evaluated[0], 1000, sizes=sizes))) == []


def test_images_of_other_sizes_are_warned_of(evaluated):
    sizes = {"samples": (64, 64), "reference": (32, 24), "floor": (80, 80)}
    found = changed(evaluated[0], 1000, sizes=sizes)
    beginnings = [
        f"samples are 64x64, images of the {name} {size}, which changes distances: "
        for name, size in (("reference", "32x24"), ("floor", "80x80"))
    ]
    at_once, made = (
        "bring real images to that size with --size 64",
        "make one of that size with gensynth reference IMAGES --size 64",
    )
    assert list(warnings_of(found)) == [f"{one}{at_once}" for one in beginnings]
    of_file = dataclasses.replace(found, real_files=None)
    assert list(warnings_of(of_file)) == [f"{beginnings[0]}{made}", f"{beginnings[1]}{at_once}"]
    alike = {**sizes, "floor": sizes["reference"]}  # of which one warning is enough
    found = dataclasses.replace(found, sizes=alike)
    assert list(warnings_of(found)) == [f"{beginnings[0]}{at_once}"]


def test_the_reason_for_no_floor_and_images_that_are_the_reference(evaluated):
    found = changed(evaluated[0], 1000, no_floor="the moon is full", seen=True)
    assert list(warnings_of(found)) == [
        "what real images score is not known: the moon is full",
        "every sample is an image of the reference, pixel for pixel",
    ]


def test_the_table_has_every_number(evaluated):
    measured, report = evaluated
    out = io.StringIO()
    print_report(report, Console(file=out, width=100))
    printed = out.getvalue()
    assert "warning: 80 samples" in printed
    for score in measured.scores:
        assert score.name in printed and rounded(score.value, score.standard_error)[0] in printed
    assert "80 samples of drawn with <b>noise</b>" in printed


def test_a_report_on_disk(evaluated, tmp_path):
    _, report = evaluated
    write_report(report, tmp_path / "new" / METRICS_FILE)
    assert json.loads((tmp_path / "new" / METRICS_FILE).read_text()) == report
    assert [path.name for path in (tmp_path / "new").iterdir()] == [METRICS_FILE]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Choose another --out"):
        write_report(report, tmp_path / "file" / METRICS_FILE)


def test_the_command_and_the_seed_are_in_it(evaluated):
    report = describe(evaluated[0], "gensynth evaluate x", 7)
    assert report["command"] == "gensynth evaluate x"
    assert report["samples"]["selection_seed"] == 7


def test_the_reference_by_its_numbers_and_whether_it_is_published(evaluated):
    measured, report = evaluated
    said = report["reference"]
    assert said["images_sha256"] == measured.reference.images_sha256
    assert said["size"] == [32, 32]
    assert said["statistics_sha256"] == measured.reference.statistics_sha256 != said["sha256"]
    assert (said["published"], said["verified"]) == (None, None)
    published = {**measured.reference.meta, "published": "imagenet512", "verified": False}
    reference = dataclasses.replace(measured.reference, meta=published)
    said = describe(dataclasses.replace(measured, reference=reference), "", 0)["reference"]
    assert (said["published"], said["verified"]) == ("imagenet512", False)
