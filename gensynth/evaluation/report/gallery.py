"""The sections of the page that show pictures: at random, best and worst, by class, copies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image
from torch import Tensor

from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.report.examples import (
    NEIGHBOURS,
    Neighbours,
    by_class,
    in_random_order,
    names_of,
    neighbours_of,
    pictures_of,
    realism_of,
    reference_images,
    typical_distance,
)
from gensynth.evaluation.report.page_parts import grid, paragraph, tile
from gensynth.evaluation.report.report import number

RANDOM, EXTREME = 40, 20  # samples at random, and of the best and worst each
CLASSES, OF_A_CLASS = 20, 10  # classes shown, and samples of each
CHECKED = 4  # for copies: of the most realistic samples, and as many at random
NO_FEATURES = (
    f"features of more than {NEIGHBOURS} reference images, and the reference does not hold them."
)


@dataclass(frozen=True)
class Gallery:
    """The samples to show, by position.

    Attributes:
        order: the number of the sample at each position.
        realism: of each sample; None if it cannot be known.
        classes: class name -> some of its samples; empty if classes are not known.
        num_classes: how many there are.
        class_of: class names of the samples shown, or their prompts.
        pictures: by position.
    """

    order: Sequence[int]
    realism: Tensor | None
    random: list[int]
    best: list[int]
    worst: list[int]
    classes: dict[str, list[int]]
    num_classes: int
    class_of: dict[int, str]
    pictures: dict[int, Image.Image]

    @property
    def checked(self) -> list[int]:
        """The samples whose nearest reference images are shown."""
        best = self.best[:CHECKED]
        return [*best, *(at for at in self.random if at not in best)][: 2 * CHECKED]


def gallery_of(measured: Measured) -> Gallery:
    """Chooses samples, the same ones every time, and reads their pictures once."""
    count, order = measured.files.count, measured.order
    drawn, most = in_random_order(count), min(EXTREME, count // 2)
    random = sorted(drawn[:RANDOM])
    realism = realism_of(measured)
    ranks = [] if realism is None else realism.argsort(descending=True, stable=True).tolist()
    best, worst = ranks[:most], ranks[::-1][:most]
    names = names_of(measured.samples, measured.real)
    classes = by_class(measured.samples, order, names)
    class_of = {position: name for name, places in classes.items() for position in places}
    if measured.samples.texts is not None:
        texts = measured.samples.texts
        class_of = {position: texts[index] for position, index in enumerate(order)}
    # In the same order as above, so that few pictures are read: a model draws them once more.
    turn = {position: number for number, position in enumerate(drawn)}
    some = {
        name: sorted(classes[name], key=turn.__getitem__)[:OF_A_CLASS]
        for name in (list(classes)[at] for at in sorted(in_random_order(len(classes))[:CLASSES]))
    }
    shown = sorted({*random, *best, *worst, *(at for places in some.values() for at in places)})
    read = pictures_of(measured.samples, [order[position] for position in shown])
    pictures = {position: read[order[position]] for position in shown}
    return Gallery(order, realism, random, best, worst, some, len(classes), class_of, pictures)


def gallery_sections(measured: Measured) -> dict[str, list[str]]:
    """Title -> HTML of the sections with pictures."""
    shown = gallery_of(measured)
    return {
        "Samples at random": list(random_section(shown, measured.files.count)),
        "Most and least realistic samples": list(extreme_section(shown)),
        "Samples of each class": list(class_section(shown)),
        "Nearest reference images": list(nearest_section(measured, shown)),
    }


def sample_tile(shown: Gallery, position: int, *notes: str) -> str:
    """A sample above its number and further lines."""
    lines = [f"#{shown.order[position]}", *filter(None, notes)]
    return tile(shown.pictures[position], f"sample {', '.join(lines)}", *lines)


def random_section(shown: Gallery, count: int) -> Iterator[str]:
    text = f"{len(shown.random)} of {count:,}" if len(shown.random) < count else f"All {count}"
    yield paragraph(f"{text}, the same ones every time. #: number of the sample.", "soft")
    yield grid(sample_tile(shown, at, shown.class_of.get(at, "")) for at in shown.random)


def extreme_section(shown: Gallery) -> Iterator[str]:
    if shown.realism is None:
        yield paragraph(f"Not shown: the order takes {NO_FEATURES}")
        return
    yield paragraph(
        "Ordered by realism: around every reference image lies a ball that reaches to its "
        f"{NEIGHBOURS}rd nearest other one. Realism is radius over distance, for the ball in which "
        "the sample lies deepest: from 1 on it lies among reference images, and ∞ has the features "
        "of one of them.",
        "soft",
    )
    for title, positions in (("Most realistic", shown.best), ("Least realistic", shown.worst)):
        yield f"<h3>{title}</h3>"
        values = {at: realism_text(float(shown.realism[at])) for at in positions}
        yield grid(
            sample_tile(shown, at, shown.class_of.get(at, ""), value)
            for at, value in values.items()
        )


def realism_text(value: float) -> str:
    return "realism ∞" if value == float("inf") else f"realism {value:.2f}"


def class_section(shown: Gallery) -> Iterator[str]:
    if not shown.classes:
        yield paragraph("Not shown: the classes of the samples are not known.")
        return
    some = len(shown.classes) < shown.num_classes
    of = f"{len(shown.classes)} of {shown.num_classes:,} classes" if some else "All classes"
    yield paragraph(f"{of}; samples at random, the same ones every time.", "soft")
    rows = (
        f"<div><h3>{escape(name)}</h3>{grid(sample_tile(shown, at) for at in positions)}</div>"
        for name, positions in shown.classes.items()
    )
    yield f'<div class="rows">{"".join(rows)}</div>'


def nearest_section(measured: Measured, shown: Gallery) -> Iterator[str]:
    real = reference_images(measured)
    if real is None:
        yield paragraph("Not shown: the reference holds no images, or no features of them.")
        return
    found = neighbours_of(measured, shown.checked)
    pictures = pictures_of(real, [index for one in found for index in one.images])
    yield paragraph(
        f"Each sample, then the {NEIGHBOURS} reference images nearest to it, with their distances. "
        "Half of the samples are the most realistic ones, the others are random. The nearest other "
        f"one of a reference image is typically {number(typical_distance(measured))} away (the "
        "median): a sample much nearer to one than that may be a copy. Only the reference is "
        "searched; copies of other images do not show.",
        "soft",
    )
    yield f'<div class="pairs">{"".join(pair(shown, one, pictures) for one in found)}</div>'


def pair(shown: Gallery, one: Neighbours, pictures: dict[int, Image.Image]) -> str:
    """A sample and the reference images nearest to it."""
    tiles = [sample_tile(shown, one.position, shown.class_of.get(one.position, ""))]
    for index, far in zip(one.images, one.distances, strict=True):
        distance = f"distance {number(far) if far else 0}"
        words = f"reference image {index}, {distance}"
        tiles.append(tile(pictures[index], words, distance))
    return f'<div class="pair">{"".join(tiles)}</div>'
