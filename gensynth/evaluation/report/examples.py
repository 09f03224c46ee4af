"""Which samples and reference images the page shows, and the pictures themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gensynth.data.images import to_pil
from gensynth.evaluation.measuring.features import Images
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import space_of
from gensynth.metrics import nearest, realism

LARGEST = 128  # pixels; larger pictures are scaled down
NEIGHBOURS = 3
TYPICAL = 1000  # reference images that the typical distance is taken from
BATCH = 64


@dataclass(frozen=True)
class Neighbours:
    """A sample, by its position, and the reference images nearest to it.

    Attributes:
        images: numbers of reference images, the nearest first.
        distances: between the features, Euclidean.
    """

    position: int
    images: list[int]
    distances: list[float]


def in_random_order(count: int) -> list[int]:
    """The positions below `count`, shuffled in the same way every time."""
    return np.random.default_rng(0).permutation(count).tolist()


def names_of(*sets: Images | None) -> list[str] | None:
    """The class names that the first set which knows them gives."""
    return next((images.classes for images in sets if images and images.classes), None)


def by_class(images: Images, order: Sequence[int], names: list[str] | None) -> dict[str, list[int]]:
    """Positions in `order` of each class, in the order of the labels; empty if they are unknown."""
    if images.labels is None:
        return {}
    found: dict[int, list[int]] = {}
    for position, index in enumerate(order):
        found.setdefault(images.labels(index), []).append(position)
    if images.classes is None and names and all(name.isdecimal() for name in names):
        # The number of a class is then its name: that of the folder 10 is not the tenth's.
        return {str(label): found[label] for label in sorted(found)}
    names = images.classes or names or []
    return {
        names[label] if label < len(names) else f"class {label}": found[label]
        for label in sorted(found)
    }


def kept_features(measured: Measured) -> Tensor | None:
    """Features [M, D] of reference images; None if the reference is moments only."""
    kept = measured.reference.features.get(space_of(measured.extractor).main)
    return None if kept is None else torch.as_tensor(kept)


def realism_of(measured: Measured) -> Tensor | None:
    """The realism [N] of each sample; None without features of enough reference images."""
    kept = kept_features(measured)
    if kept is None or len(kept) <= NEIGHBOURS:
        return None
    features = measured.files.all(space_of(measured.extractor).main)
    return realism(kept, features, k=NEIGHBOURS)


def reference_images(measured: Measured) -> Images | None:
    """The pictures of the reference, if they are at hand and their features are known."""
    images = measured.real or measured.reference.images
    return None if kept_features(measured) is None else images


def neighbours_of(measured: Measured, positions: Sequence[int]) -> list[Neighbours]:
    """The nearest among all reference images whose features are known."""
    features = measured.files.all(space_of(measured.extractor).main)[list(positions)].clone()
    found = [
        (squared, numbers[at])
        for numbers, block in reference_blocks(measured)
        for squared, at in [nearest(features, block, min(NEIGHBOURS, len(block)))]
    ]
    squared, numbers = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    # the nearest of every block, of which the nearest of all are taken
    order = squared.argsort(dim=1, stable=True)[:, :NEIGHBOURS]
    rows = zip(positions, numbers.gather(1, order), squared.gather(1, order).sqrt(), strict=True)
    return [Neighbours(at, images.tolist(), far.tolist()) for at, images, far in rows]


def reference_blocks(measured: Measured) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers [B] and features [B, D] of reference images."""
    if measured.real_files is not None:
        yield from measured.real_files.read(space_of(measured.extractor).main)
        return
    kept = kept_features(measured)
    assert kept is not None
    yield torch.arange(len(kept)), kept


def typical_distance(measured: Measured) -> float:
    """The median distance of a reference image to its nearest other one."""
    kept = kept_features(measured)
    assert kept is not None
    chosen = kept[in_random_order(len(kept))[:TYPICAL]]
    # the second nearest: the nearest is the image itself
    return float(nearest(chosen, kept, 2)[0][:, 1].sqrt().median())


def pictures_of(images: Images, indices: Sequence[int]) -> dict[int, Image.Image]:
    """Pictures by number, of at most 128 pixels a side."""
    found = {}
    # each picture once, also one that several sections show
    for numbers, batch in images.batches(sorted(set(indices)), BATCH):
        for number, pixels in zip(numbers.tolist(), batch, strict=True):
            found[number] = to_pil(pixels)
            found[number].thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return found
