"""Samples x reference x feature space -> numbers."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from gensynth.errors import UsageError
from gensynth.evaluation.measuring.beside import (
    Beside,
    Looked,
    look,
    reason_against,
    scores_beside,
)
from gensynth.evaluation.measuring.features import (
    PIXELS,
    Effort,
    FeatureFiles,
    Images,
    duplicates,
    extract,
    pixels_sha256,
    selection,
    size_of,
)
from gensynth.evaluation.measuring.floors import add_floors, without_floor
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import (
    BESIDE,
    FEATURES_OF_REFERENCE,
    NEEDS_FEATURES,
    chosen_metrics,
    compute,
    space_of,
    sums_of,
)
from gensynth.evaluation.references.reference import Reference, read_reference, write_reference
from gensynth.metrics.extractors import Extractor
from gensynth.processes import processes

LAYOUT = 3  # of the statistics kept in the cache; to be raised when their making changes


def measure(
    samples: Images,
    reference: Images | Reference,
    extractor: Extractor,
    num: int | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    others: Images | None = None,
    effort: Effort | None = None,
    beside: Beside | None = None,
) -> Measured | None:
    """The numbers of samples against a reference; None in all processes but the main one.

    Args:
        num: how many samples; None for all. A part is drawn at random by `seed`.
        metrics: some of `measures.METRICS`; None for all that fit the extractor.
        others: real images that are not in the reference: what as many of them as there are samples
            score is the floor. None: in spaces whose numbers cannot be read without it, the floor
            compares as many images of the reference as there are samples with its others, if it
            has at least `floors.LEAST_SHARE` times as many.
        beside: training pictures and a CLIP, if there are any.

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
    # A file's few images are only needed where features of single images are.
    if images is not reference and not NEEDS_FEATURES.keys() & set(wanted):
        images = None
    # Decided before anything is extracted, so that images of no use are not looked at.
    reason = without_floor(wanted, len(order), images, others)
    drawn = selection(others.length, len(order), seed) if others and not reason else ()
    effort.expect(len(order) + (images.length if images else 0) + len(drawn))
    real = extract(images, range(images.length), extractor, effort) if images else None
    spare = extract(others, drawn, extractor, effort) if others and drawn else None
    files = extract(samples, order, extractor, effort)
    beside, unfit = chosen_beside(metrics, beside or Beside(()), samples, images)
    looked = look(samples, order, images, beside, effort)
    extracted = time.perf_counter()
    # Extracting is shared; the numbers are a small part of the work and made once.
    if not processes().is_main_process:
        return None
    known = completed(reference, real, extractor)
    found = Measured(samples, order, files, known, extractor, [], images, real, asked=num)
    found.scores, found.left_out = compute(extractor, files, known, wanted)
    found.left_out += unfit
    if looked is not None:
        add_beside(found, looked, beside)
    if not found.scores:
        raise UsageError(
            f"nothing can be computed against {known.name}: {'; '.join(found.left_out)}."
        )
    if space_of(extractor).floor or others is not None:
        found.no_floor = reason
        found.floor_of = None if reason else add_floors(found, real, spare, others)
    describe_images(found, others, spare)
    found.seconds = {"features": extracted - start, "numbers": time.perf_counter() - extracted}
    return found


def chosen_beside(
    metrics: Sequence[str] | None, beside: Beside, samples: Images, real: Images | None
) -> tuple[Beside, list[str]]:
    """Which numbers of prompts and training pictures are computed, and a sentence for each other
    one that was asked for by its name."""
    reasons = {name: reason_against(name, beside, samples, real) for name in BESIDE}
    wanted = [name for name in BESIDE if metrics is None or name in metrics]
    left_out = [f"no {name}: {reasons[name]}" for name in wanted if metrics and reasons[name]]
    return replace(beside, metrics=[name for name in wanted if reasons[name] is None]), left_out


def add_beside(found: Measured, looked: Looked, beside: Beside) -> None:
    """Adds the numbers of prompts and training pictures."""
    texts = found.samples.texts
    prompts = None if texts is None else [texts[index] for index in found.order]
    scores, found.companions, found.remarks = scores_beside(looked, beside, prompts, found.real)
    found.scores += scores
    found.further = looked.of_samples


def describe_images(found: Measured, others: Images | None, spare: FeatureFiles | None) -> None:
    """Notes the sizes of all images, and which are copies or images of the reference."""
    found.copies = duplicates(found.files)
    found.sizes["samples"] = size_of(found.samples)
    known = found.reference.images or found.real
    if "size" in found.reference.meta:
        width, height = found.reference.meta["size"]
        found.sizes["reference"] = (width, height)
    elif known is not None:
        found.sizes["reference"] = size_of(known)
    if others is not None and found.floor_of:
        found.sizes["floor"] = size_of(others)
    found.seen = seen_in(found, found.files) == found.files.count
    if spare is not None:
        found.floor_seen = seen_in(found, spare)


def seen_in(found: Measured, files: FeatureFiles) -> int:
    """How many images are images of the reference; of a file of statistics all are known or none"""
    if found.real_files is not None:
        return int(torch.isin(files.all(PIXELS), found.real_files.all(PIXELS)).sum())
    if found.reference.images_sha256 is None:
        return 0
    kept_all = files.count <= FEATURES_OF_REFERENCE
    same = pixels_sha256(files, kept_all) == found.reference.images_sha256
    return files.count if same else 0


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
    """The statistics of real images; None in all processes but the main one.

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
        # with the root, so that no later distance has to compute it
        statistics[feature] = sums_of(files, feature).statistics().with_root()
    kept = {space.main: some_of(files, space.main)}
    meta = {
        "name": images.name,
        "fingerprint": images.fingerprint,
        "count": files.count,
        "size": size_of(images),
        # In any order, as long as all features are kept; of more images, the order decides which.
        "images_sha256": pixels_sha256(files, sort=files.count <= FEATURES_OF_REFERENCE),
        "extractor": extractor.name,
        "extractor_fingerprint": extractor.fingerprint,
        "preprocessing": extractor.preprocessing,
        "weights_sha256": extractor.weights_sha256,
    }
    write_reference(path, statistics, kept, meta)
    # Read back: the same object whether it was in the cache or not.
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
