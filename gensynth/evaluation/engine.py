"""Samples x reference x feature space -> numbers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from gensynth.errors import UsageError
from gensynth.evaluation.features import (
    Effort,
    FeatureFiles,
    Images,
    duplicates,
    extract,
    selection,
)
from gensynth.evaluation.measures import (
    FEATURES_OF_REFERENCE,
    NEEDS_FEATURES,
    Score,
    chosen_metrics,
    compute,
    space_of,
    sums_of,
)
from gensynth.evaluation.references import Reference, read_reference, write_reference
from gensynth.metrics.extractors import Extractor
from gensynth.metrics.frechet import distance_terms
from gensynth.processes import processes
from gensynth.seeding import derived_seed

LAYOUT = 2  # of the statistics kept in the cache; to be raised when their making changes


@dataclass
class Measured:
    """What came out, and what it came from.

    Attributes:
        order: which images of `samples` were used; positions in `files` are positions in it.
        real, real_files: the images of the reference and all their features, if it is not a file of
            statistics.
        floor_of: what the floors of the scores compare; none if they have none.
        left_out: a sentence for each metric that could not be computed.
        copies: how many samples repeat an earlier one pixel for pixel.
        seconds: how long extracting and computing took.
    """

    samples: Images
    order: Sequence[int]
    files: FeatureFiles
    reference: Reference
    extractor: Extractor
    scores: list[Score]
    real: Images | None = None
    real_files: FeatureFiles | None = None
    floor_of: str | None = None
    left_out: list[str] = field(default_factory=list)
    copies: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def headline(self) -> Score:
        """The number to read first."""
        key = space_of(self.extractor).headline
        return next((s for s in self.scores if s.key == key), self.scores[0])


def measure(
    samples: Images,
    reference: Images | Reference,
    extractor: Extractor,
    num: int | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    others: Images | None = None,
    effort: Effort | None = None,
) -> Measured | None:
    """The numbers of samples against a reference; none in all processes but the main one.

    Args:
        num: how many samples; none for all. A part is drawn at random by `seed`.
        metrics: some of `measures.METRICS`; none for all that fit the extractor.
        others: real images that are not in the reference, for the floor; none: the floor compares
            as many images of the reference as there are samples with its others. There is none if
            it has not twice as many.

    Raises:
        UsageError: fewer than two samples, or an unknown metric.
        InputError: an image cannot be read, or is of another size than the others.
    """
    effort = effort or Effort()
    wanted = chosen_metrics(extractor, metrics)
    order = selection(samples.length, num, seed)
    if len(order) < 2:
        raise UsageError(f"a distance needs at least 2 samples, {samples.name} has {len(order)}.")
    start = time.perf_counter()
    images = reference.images if isinstance(reference, Reference) else reference
    real = None
    if images is not None and (images is reference or NEEDS_FEATURES.keys() & set(wanted)):
        real = extract(images, range(images.length), extractor, effort)
    spare = None
    if others is not None and space_of(extractor).floor:
        spare = extract(others, selection(others.length, len(order), seed), extractor, effort)
    files = extract(samples, order, extractor, effort)
    extracted = time.perf_counter()
    if not processes().is_main_process:
        return None
    known = completed(reference, real, extractor)
    found = Measured(samples, order, files, known, extractor, [], images, real)
    found.scores, found.left_out = compute(extractor, files, known, wanted)
    if not found.scores:
        raise UsageError(
            f"nothing can be computed against {known.name}: {'; '.join(found.left_out)}."
        )
    if space_of(extractor).floor and "frechet" in wanted and real is not None:
        found.floor_of = add_floors(found, real, spare, others)
    found.copies = duplicates(files)
    finished = time.perf_counter()
    found.seconds = {"features": extracted - start, "numbers": finished - extracted}
    return found


def completed(
    reference: Images | Reference, files: FeatureFiles | None, extractor: Extractor
) -> Reference:
    """A reference with all that is known of it, given the features of its images if it has some."""
    if not isinstance(reference, Reference):
        assert files is not None
        return reference_of(reference, files, extractor)
    if files is None:
        return reference
    # ADM's batches: moments of all images, and some of them as images.
    main = space_of(extractor).main
    return replace(reference, features={main: some_of(files, main)} | reference.features)


def make_reference(
    images: Images, extractor: Extractor, num: int | None = None, effort: Effort | None = None
) -> Reference | None:
    """The statistics of real images; none in all processes but the main one.

    Raises:
        UsageError: fewer than two images.
    """
    order = selection(images.length, num, seed=0)
    files = extract(images, order, extractor, effort or Effort())
    return reference_of(images, files, extractor) if processes().is_main_process else None


def reference_of(images: Images, files: FeatureFiles, extractor: Extractor) -> Reference:
    """Statistics and kept features of extracted images, from the cache if they are there.

    Raises:
        UsageError: fewer than two images.
    """
    if files.count < 2:
        raise UsageError(f"a reference needs at least 2 images, {images.name} has {files.count}.")
    path = files.folder / f"reference-{LAYOUT}.npz"
    if path.is_file():
        return read_reference(path, extractor)
    space = space_of(extractor)
    statistics = {}
    for feature in space.frechet.values():
        statistics[feature] = sums_of(files, feature).statistics().with_root()
    kept = {space.main: some_of(files, space.main)}
    meta = {
        "name": images.name,
        "fingerprint": images.fingerprint,
        "count": files.count,
        "extractor": extractor.name,
        "extractor_fingerprint": extractor.fingerprint,
        "preprocessing": extractor.preprocessing,
        "weights_sha256": extractor.weights_sha256,
    }
    write_reference(path, statistics, kept, meta)
    return read_reference(path, extractor)


def some_of(files: FeatureFiles, feature: str) -> np.ndarray:
    """Up to 10,000 of the features [N, D]: drawn at random, since images may lie in an order."""
    chosen = kept_rows(files.count)
    parts = [features[chosen[positions]] for positions, features in files.read(feature)]
    return torch.cat(parts).numpy()


def kept_rows(count: int) -> torch.Tensor:
    """Which of `count` reference images are kept as features, bool [count]."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[list(selection(count, FEATURES_OF_REFERENCE, seed=0))] = True
    return chosen


def add_floors(
    found: Measured, real: FeatureFiles, spare: FeatureFiles | None, others: Images | None
) -> str | None:
    """Sets the floors of the Fréchet distances; says what they compare, none if there are none.

    A floor is of as many images as there are samples: with fewer it would be higher.
    """
    count = found.files.count if spare is None else spare.count
    if count < found.files.count or (spare is None and real.count < 2 * count):
        return None
    generator = torch.Generator().manual_seed(derived_seed("floor", real.count))
    drawn = torch.zeros(real.count, dtype=torch.bool)
    drawn[torch.randperm(real.count, generator=generator)[:count]] = True
    for score in found.scores:
        if score.key not in space_of(found.extractor).frechet:
            continue
        feature = score.details["feature"]
        if spare is None:
            pair = (sums_of(real, feature, among=~drawn), sums_of(real, feature, among=drawn))
            reference, sample = (sums.statistics() for sums in pair)
        else:
            reference = found.reference.statistics[feature]
            sample = sums_of(spare, feature).statistics()
        score.floor = sum(distance_terms(reference, sample))
    if spare is not None and others is not None:
        return f"{count} images of {others.name}"
    return f"{count} images of {found.reference.name} against its other {real.count - count}"
