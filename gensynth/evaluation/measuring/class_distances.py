"""A Fréchet distance for each class, beside what real images of the class score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gensynth.evaluation.measuring.features import FeatureFiles
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import space_of
from gensynth.evaluation.report.examples import by_class, in_random_order, names_of
from gensynth.metrics import Statistics, frechet_distance

# Samples held in memory, of a class and of all; of reference images twice as many.
MOST_OF_A_CLASS = 500
MOST_IMAGES = 50_000


@dataclass(frozen=True)
class ClassDistance:
    """How far the samples of a class are from its reference images.

    Attributes:
        num_samples, num_reference: how many of them `value` compares.
        floor: what `num_samples` other real images of the class score against the same reference
            images; None if there are too few.
    """

    name: str
    value: float
    floor: float | None
    num_samples: int
    num_reference: int

    @property
    def times_floor(self) -> float:
        """0 without a floor."""
        return self.value / self.floor if self.floor else 0.0


def class_distances(measured: Measured) -> tuple[list[ClassDistance], list[str]]:
    """The distances in the feature of the headline, and the classes left out.

    Sorted by their ratio to the floor, largest first: a class that varies much scores high anyway.

    Both are empty if the classes of the samples or of the reference images are not known, or if
    the headline is no Fréchet distance. A class is left out that has fewer than two images on one
    side.
    """
    feature = measured.headline.details.get("feature", "")
    real, files = measured.real, measured.real_files
    if (
        real is None
        or files is None
        or feature not in space_of(measured.extractor).frechet.values()
    ):
        return [], []
    names = names_of(measured.samples, real)
    fake_classes = by_class(measured.samples, measured.order, names)
    real_classes = by_class(real, range(real.length), names)
    if not fake_classes or not real_classes:
        return [], []
    used = [n for n in fake_classes if min(len(fake_classes[n]), len(real_classes.get(n, []))) >= 2]
    left_out = sorted((fake_classes | real_classes).keys() - set(used))
    if not used:
        return [], left_out
    # All classes share the memory: many of them get fewer images each.
    most = max(2, min(MOST_OF_A_CLASS, MOST_IMAGES // len(used)))
    fake_rows = rows_of(measured.files, feature, chosen(fake_classes, used, most))
    real_rows = rows_of(files, feature, chosen(real_classes, used, 2 * most))
    found = [class_distance(name, fake_rows[name], real_rows[name]) for name in used]
    found.sort(key=lambda one: (-one.times_floor, -one.value, one.name))
    return found, left_out


def chosen(classes: dict[str, list[int]], names: Sequence[str], most: int) -> dict[str, list[int]]:
    """At most `most` positions of each of these classes, drawn at random."""
    return {
        name: [classes[name][at] for at in in_random_order(len(classes[name]))[:most]]
        for name in names
    }


def rows_of(
    files: FeatureFiles, feature: str, positions: dict[str, list[int]]
) -> dict[str, Tensor]:
    """The features [n, D] of these positions, read in one pass."""
    owner = np.full(files.count, -1)  # number of the class of each position; -1: not chosen
    for number, places in enumerate(positions.values()):
        owner[places] = number
    parts: list[list[Tensor]] = [[] for _ in positions]
    for where, features in files.read(feature):
        owners = torch.from_numpy(owner[where.numpy()])
        for number in set(owners.tolist()) - {-1}:
            parts[number].append(features[owners == number])
    return {name: torch.cat(part) for name, part in zip(positions, parts, strict=True)}


def class_distance(name: str, fake: Tensor, real: Tensor) -> ClassDistance:
    """The distance of one class; with enough real images, value and floor compare equal numbers."""
    count = min(len(fake), len(real) // 2)
    if count < 2:  # too few for a covariance of each half
        return ClassDistance(name, distance(fake, real), None, len(fake), len(real))
    # Every other one: images that follow each other in a dataset are often alike.
    fake, others, reference = fake[:count], real[1::2][:count], real[::2]
    return ClassDistance(
        name, distance(fake, reference), distance(others, reference), count, len(reference)
    )


def distance(one: Tensor, other: Tensor) -> float:
    """The Fréchet distance of features [n, D] and [m, D].

    With fewer images than features the trace of the root of the covariances' product is the sum of
    the singular values of X Y^T / sqrt((n - 1)(m - 1)), X and Y centred: a small matrix.
    """
    if min(len(one), len(other)) > one.shape[1]:  # the covariances are smaller than x @ y.T
        a, b = Statistics.of(one), Statistics.of(other)
        return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    x, y = one.double(), other.double()
    between = float((x.mean(0) - y.mean(0)).square().sum())
    x, y = (z.sub(z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    shared = float(torch.linalg.svdvals(x @ y.T).sum())  # [n, m]; tr of the root of the product
    return max(0.0, between + float(x.square().sum() + y.square().sum()) - 2 * shared)
