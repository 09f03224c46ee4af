"""What real images score: the floor that a distance is read beside."""

from collections.abc import Sequence

import torch

from gensynth.evaluation.measuring.features import FeatureFiles, Images
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import space_of, sums_of
from gensynth.metrics.frechet import distance_terms
from gensynth.seeding import derived_seed

FEWEST = 2  # samples of which a distance can be told
LEAST_SHARE = 4  # the fewest reference images for each sample, where they make the floor themselves


def without_floor(
    metrics: Sequence[str],
    count: int,
    real: Images | None,
    others: Images | None,
) -> str | None:
    """Why `count` samples have no floor, in words that end in what to do; None if they have one.

    Args:
        real: all images of the reference; None where it is a file of statistics.
    """
    if "frechet" not in metrics:
        return "none of these numbers has a floor; a Fréchet distance has one"
    if others is not None:
        if others.length >= count:
            return None
        return (
            f"{others.name} has {others.length:,} images, fewer than the {count:,} samples; give "
            f"more with --floor{_fewer_samples(others.length)}"
        )
    if real is None:
        return "the reference is a file of statistics; give real images with --floor"
    if real.length < LEAST_SHARE * count:
        return (
            f"the reference has {real.length:,} images, less than four times the {count:,} samples;"
            f" give others with --floor{_fewer_samples(real.length // LEAST_SHARE)}"
        )
    return None


def _fewer_samples(most: int) -> str:
    """How else to get a floor that is of so many images at the most."""
    return f", or measure fewer samples: -n {most}" if most >= FEWEST else ""


def add_floors(
    found: Measured,
    real: FeatureFiles | None,
    spare: FeatureFiles | None,
    others: Images | None,
) -> str | None:
    """Sets the floors of the Fréchet distances; says what they compare, or None.

    A floor compares as many images as there are samples; fewer would score higher. So would a floor
    against a small rest of the reference: the bias falls as 1 / count on either side.

    Args:
        real: all images of the reference, of which a part is compared with the rest.
        spare, others: real images that are not in the reference, which are compared with it
            instead.
    """
    count = found.files.count if spare is None else spare.count
    enough = spare is not None or (real is not None and real.count >= LEAST_SHARE * count)
    if count < found.files.count or not enough:
        return None
    part = None if spare is not None or real is None else some_rows(real.count, count)
    for score in found.scores:
        if score.key not in space_of(found.extractor).frechet:
            continue
        feature = score.details["feature"]
        if spare is not None:
            reference = found.reference.statistics[feature]
            sample = sums_of(spare, feature).statistics()
        else:
            assert real is not None and part is not None
            reference = sums_of(real, feature, among=~part).statistics()  # the rest
            sample = sums_of(real, feature, among=part).statistics()
        score.floor = sum(distance_terms(reference, sample))  # of means and of covariances
    if others is not None:
        return f"{count} images of {others.name}"
    assert real is not None
    return f"{count} images of {found.reference.name} against its other {real.count - count}"


def some_rows(length: int, count: int) -> torch.Tensor:
    """Which `count` of `length` images a floor compares with the others, bool [length]."""
    generator = torch.Generator().manual_seed(derived_seed("floor", length))
    drawn = torch.zeros(length, dtype=torch.bool)
    drawn[torch.randperm(length, generator=generator)[:count]] = True
    return drawn
