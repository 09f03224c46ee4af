import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from gensynth.errors import OutputError
from gensynth.evaluation.measuring.class_distances import class_distances, distance
from gensynth.evaluation.measuring.measure import measure
from gensynth.evaluation.measuring.rounding import number, with_error
from gensynth.evaluation.references.reference import Reference
from gensynth.evaluation.report.examples import (
    in_random_order,
    neighbours_of,
    pictures_of,
    realism_of,
)
from gensynth.evaluation.report.page import how_to_read, write_page
from gensynth.evaluation.report.report import describe
from gensynth.metrics import Statistics, frechet_distance

COPY, COPIED = 5, 17
SECTIONS = [
    "All numbers",
    "Quality against variety",
    "Samples at random",
    "Most and least realistic samples",
    "Samples of each class",
    "Nearest reference images",
    "Fréchet distance of each class",
    "What was measured",
]


class Reader(HTMLParser):
    """Headings, pictures, text, and whatever a page would fetch."""

    VOID = ("meta", "link", "img", "source", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.images, self.fetched, self.words = [], [], [], [], []
        self.tags, self.links, self.ids = set(), [], []
        self.feed(text)
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attributes)
        if tag == "a":
            self.links.append(attributes["href"])
        self.ids += [attributes[name] for name in ("id",) if name in attributes]
        for name in ("src", "srcset", "href"):
            if name in attributes and not attributes[name].startswith(("data:", "#")):
                self.fetched.append(attributes[name])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def read(measured, report, folder):
    write_page(measured, report, folder / "new" / "report.html")
    return (folder / "new" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(evaluated, tmp_path_factory):
    return read(*evaluated, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(text):
    return Reader(text)


def test_the_sections(page):
    assert page.headings == SECTIONS
    assert "Not shown" not in page.text
    assert page.links == [f"#{name}" for name in page.ids]
    assert len(set(page.ids)) == len(SECTIONS)


def test_it_needs_nothing_else(page, text):
    assert page.fetched == []
    assert "script" not in page.tags
    assert "@import" not in text
    assert "url(" not in text


def test_names_are_not_markup(page, text):
    assert "<b>" not in text
    assert "<script>" not in text
    assert "drawn with <b>noise</b> & more" in page.text
    assert "gensynth evaluate 'a <folder>' --reference real" in page.text
    assert any("<script>alert('Sneaker')" in image["alt"] for image in page.images)


def test_every_picture_has_words_and_a_size(page):
    assert len(page.images) >= 40 + 40 + 60 + 32
    assert all(image["alt"] for image in page.images)
    samples = [image for image in page.images if image["src"].startswith("data:image/png")]
    assert {(image["width"], image["height"], image["class"]) for image in samples} == {
        ("32", "32", "small")
    }


def test_the_headline_and_the_warnings(page, evaluated):
    measured, report = evaluated
    score = measured.headline
    assert page.text.startswith(f"{score.name} = ")
    assert f"{score.name} = {with_error(score.value, score.standard_error)}" in page.text
    assert f"Real images score {number(score.floor)} (80 images of Fashion-MNIST" in page.text
    assert "times that" not in page.text  # of too few samples
    said = " ".join(how_to_read(measured, {**report, "too_few_samples": False}))
    assert f"The samples score {score.value / score.floor:.1f} times that" in said
    assert "only between equal numbers of samples" in said
    assert "This is no FID" in page.text
    assert report["warnings"]
    for warning in report["warnings"]:
        assert f"Warning: {warning}." in page.text


def test_all_numbers_and_all_facts_are_there(page, evaluated):
    _, report = evaluated
    for score in report["scores"]:
        assert score["name"] in page.text
    for group in ("samples", "reference", "extractor", "versions"):
        words = [value for value in report[group].values() if isinstance(value, str)]
        assert len(words) > 1
        assert all(word in page.text for word in words)


def test_the_same_page_again(evaluated, text, tmp_path):
    assert read(*evaluated, tmp_path) == text


def test_a_copy_is_found(evaluated):
    measured, _ = evaluated
    realism = realism_of(measured)
    assert int(realism.argmax()) == COPY
    copy, other = neighbours_of(measured, [COPY, 20])
    assert (copy.images[0], copy.distances[0]) == (COPIED, 0)
    features, real = (files.all("h1280") for files in (measured.files, measured.real_files))
    expected = (features[20].double() - real.double()).norm(dim=1).sort(stable=True)
    assert other.images == expected.indices[:3].tolist()
    assert other.distances == pytest.approx(expected.values[:3].tolist())


def test_pictures_are_those_of_the_samples(fashion_sets):
    samples, _ = fashion_sets
    pictures = pictures_of(samples, [3, 1, 3])
    assert sorted(pictures) == [1, 3]
    assert np.array_equal(np.asarray(pictures[3]), samples.pixels[3, 0].numpy())


def test_large_pictures_are_scaled_down(make_pictures):
    pixels = torch.zeros(1, 3, 512, 256, dtype=torch.uint8)
    (picture,) = pictures_of(make_pictures("large", pixels), [0]).values()
    assert (picture.size, picture.mode) == ((64, 128), "RGB")


def test_random_positions_are_the_same_every_time():
    assert in_random_order(100) == in_random_order(100)
    assert sorted(in_random_order(100)) == list(range(100)) != in_random_order(100)


@pytest.mark.parametrize("counts", [(40, 60), (6, 60), (60, 6), (5, 4)])
def test_a_distance_of_few_images(counts):
    generator = torch.Generator().manual_seed(0)
    one, other = (
        torch.randn(count, 12, generator=generator) * scale + scale
        for count, scale in zip(counts, (1, 2), strict=True)
    )
    a, b = Statistics.of(one), Statistics.of(other)
    expected = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_a_distance_for_each_class(evaluated, fashion_sets):
    measured, _ = evaluated
    samples, real = fashion_sets
    found, left_out = class_distances(measured)
    assert left_out == []
    assert {one.name for one in found} == set(samples.classes)
    ratios = [one.value / one.floor for one in found]
    assert ratios == sorted(ratios, reverse=True)
    bag = next(one for one in found if one.name == "Bag")
    fake = [i for i in range(samples.length) if samples.labels(i) == 8]
    others = [i for i in range(real.length) if real.labels(i) == 8]
    assert bag.num_samples == min(len(fake), len(others) // 2)
    assert bag.num_reference == -(-len(others) // 2)
    assert bag.floor > 0


def test_classes_of_one_image_are_left_out(evaluated, fashion_sets, make_pictures, tmp_path):
    measured, report = evaluated
    samples, _ = fashion_sets
    labels = [samples.labels(index) for index in range(samples.length)]
    first = labels.index(8)
    labels = [0 if label == 8 and at != first else label for at, label in enumerate(labels)]
    fewer = replace(measured, samples=make_pictures("few", samples.pixels, labels, samples.classes))
    found, left_out = class_distances(fewer)
    assert left_out == ["Bag"]
    assert len(found) == 9
    assert (
        "fewer than two images on a side: 1 of the classes"
        in Reader(read(fewer, report, tmp_path)).text
    )


def test_classes_of_other_names(evaluated, fashion_sets, make_pictures, tmp_path):
    measured, report = evaluated
    samples, _ = fashion_sets
    names = [f"other {number}" for number in range(10)]
    labels = [samples.labels(index) for index in range(samples.length)]
    other = replace(measured, samples=make_pictures("other", samples.pixels, labels, names))
    assert class_distances(other) == ([], sorted([*names, *samples.classes]))
    page = Reader(read(other, report, tmp_path))
    assert "Not shown: no class has two samples and two reference images." in page.text


def test_without_classes(fashion_sets, lite0_extractor, make_pictures, tmp_path):
    samples, real = (make_pictures(one.name, one.pixels) for one in fashion_sets)
    measured = measure(samples, real, lite0_extractor, metrics=["precision-recall"])
    page = Reader(read(measured, describe(measured, "gensynth", 0), tmp_path))
    assert page.headings == SECTIONS
    assert page.text.count("Not shown: ") == 2
    assert "the classes of the samples are not known" in page.text


def test_a_reference_without_features(evaluated, fashion_sets, lite0_extractor, tmp_path):
    statistics = {"s112": evaluated[0].reference.statistics["s112"]}
    measured = measure(fashion_sets[0], Reference("moments", statistics), lite0_extractor)
    page = Reader(read(measured, describe(measured, "gensynth", 0), tmp_path))
    assert page.headings == SECTIONS
    assert page.text.count("Not shown: ") == 4
    assert "score is not known: the reference is a file of statistics" in page.text


def test_a_handful_of_samples(fashion_sets, lite0_extractor, make_pictures, tmp_path):
    samples, real = (make_pictures(one.name, one.pixels[:6]) for one in fashion_sets)
    measured = measure(samples, real, lite0_extractor, metrics=["precision-recall"])
    page = Reader(read(measured, describe(measured, "gensynth", 0), tmp_path))
    assert "All 6, the same ones every time" in page.text
    assert re.search(r"Least realistic #\d", page.text)


def test_a_place_that_cannot_be_written(evaluated, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--out"):
        write_page(*evaluated, tmp_path / "file" / "report.html")


def test_figures_can_be_read_as_pictures(page):
    plots = [image["src"] for image in page.images if "svg" in image["src"][:20]]
    assert len(plots) == 3
    for plot in plots:
        content = base64.b64decode(plot.partition(",")[2]).decode()
        assert content.startswith("<?xml")
        assert "http" not in re.sub(
            r'(xmlns(:\w+)?|about|resource)="[^"]*"|<!DOCTYPE[^>]*>', "", content
        )


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (20.136, 0.314, "20.14 ± 0.31"),
        (358.91, 21.2, "359 ± 21"),
        (0.73125, 0.00812, "0.7312 ± 0.0081"),
        (0.5, 0.0, "0.5000 ± 0.0000"),
        (12.3456, None, "12.35"),
    ],
)
def test_rounding(value, error, expected):
    assert with_error(value, error) == expected
