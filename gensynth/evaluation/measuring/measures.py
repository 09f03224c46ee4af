"""Which numbers belong to a feature space, their names, and how they are computed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from gensynth.errors import InputError, UsageError
from gensynth.evaluation.measuring.features import FeatureFiles
from gensynth.evaluation.references.reference import Reference
from gensynth.metrics import (
    GroupedSums,
    Statistics,
    cmmd,
    density_coverage,
    frechet_estimate,
    inception_score,
    inception_score_in_order,
    kernel_distance,
    precision_recall,
)
from gensynth.metrics.extractors import Extractor
from gensynth.preflight.measuring import BESIDE as BESIDE
from gensynth.preflight.measuring import METRICS as METRICS
from gensynth.preflight.measuring import check_metrics

PUBLISHED_COUNT = 50_000  # samples of published numbers
FEATURES_OF_REFERENCE = 10_000  # kept for precision and recall, as in ADM's reference batches
SUBSETS, SUBSET_SIZE = 100, 1000  # for KID, as torch-fidelity's defaults
GROUPS = 10  # left out in turn for the standard error


@dataclass(frozen=True)
class Space:
    """What is computed from the features of a kind of extractor.

    Attributes:
        frechet: features with a Fréchet distance, by the key of the number.
        main: the feature for precision, recall, density, coverage and kernel distances.
        headline: the key of the number to read first.
        floor: whether what real images score is needed to read the number.
    """

    frechet: dict[str, str]
    main: str
    headline: str
    metrics: tuple[str, ...]
    floor: bool = False


GENERAL = ("frechet", "precision-recall", "density-coverage", "kid")
SPACES = {
    "pool": Space({"fid": "pool", "sfid": "spatial"}, "pool", "fid", (*GENERAL, "is")),
    "s112": Space(
        {f"fd_{stage}": stage for stage in ("s40", "s112", "s320", "h1280")},
        "h1280",
        "fd_s112",
        GENERAL,
        floor=True,
    ),
    "cls": Space({"fd": "cls"}, "cls", "fd", GENERAL),
    "embedding": Space({}, "embedding", "cmmd", ("cmmd",)),
}


@dataclass
class Score:
    """One number and how sure it is.

    Attributes:
        key, name: for programs and for people.
        better: which direction is better.
        standard_error: of the value, over samples of the same size.
        corrected: without the bias of a finite number of samples.
        floor: what real images score.
    """

    key: str
    name: str
    value: float
    better: Literal["lower", "higher"] = "lower"
    standard_error: float | None = None
    corrected: float | None = None
    floor: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def space_of(extractor: Extractor) -> Space:
    # by a feature that only this kind of extractor has
    return next(space for name, space in SPACES.items() if name in extractor.dims)


def chosen_metrics(extractor: Extractor, names: Sequence[str] | None) -> tuple[str, ...]:
    """The metrics to compute of the extractor's features, all that fit unless given.

    Raises:
        UsageError: a metric that does not exist, or not in this space.
    """
    fitting = space_of(extractor).metrics
    check_metrics(names or ())
    for name in names or ():
        if name not in (*fitting, *BESIDE):
            raise UsageError(
                f"{name} is not defined on {extractor.name}; there: {', '.join(fitting)}."
            )
    return tuple(name for name in fitting if names is None or name in names)


def known_origin(reference: Reference) -> bool:
    """Whether a reference says what made it, or is a published one by its hash."""
    return "extractor_fingerprint" in reference.meta or bool(reference.meta.get("verified"))


def frechet_name(
    extractor: Extractor, key: str, feature: str, count: int, reference: Reference
) -> str:
    """How a Fréchet distance may be called.

    "FID" and "sFID" only with the published weights and resize; "-50K" from 50,000 samples on,
    against a reference of known origin.
    """
    if extractor.name == "inception-2015" and extractor.official:
        word = {"fid": "FID", "sfid": "sFID"}[key]
        published = count >= PUBLISHED_COUNT and known_origin(reference)
        return f"{word}-50K" if published else f"{word}@N={count:,}"
    if extractor.name == "inception-2015-clean" and extractor.official and key == "fid":
        return f"clean-FID@N={count:,}"
    inner = feature if len(space_of(extractor).frechet) > 1 else ""
    return f"FD({extractor.name}{f' {inner}' if inner else ''})"


def frechet_scores(
    extractor: Extractor, samples: FeatureFiles, reference: Reference
) -> Iterator[Score]:
    """A distance for every feature that the reference has statistics of."""
    for key, feature in space_of(extractor).frechet.items():
        statistics = reference.statistics.get(feature)  # files of others often lack sFID's
        if statistics is None:
            continue
        # In groups: the standard error leaves out one of them in turn (`frechet_estimate`).
        sums = sums_of(samples, feature, GROUPS)
        check_varied(sums.statistics())
        found = frechet_estimate(statistics, sums)
        yield Score(
            key,
            frechet_name(extractor, key, feature, samples.count, reference),
            found.value,
            standard_error=found.standard_error,
            corrected=found.corrected,
            details={
                "feature": feature,
                "mean_term": found.mean_term,
                "covariance_term": found.covariance_term,
            },
        )


def sums_of(
    files: FeatureFiles, feature: str, groups: int = 1, among: Tensor | None = None
) -> GroupedSums:
    """Sums over the features of all images, or of those for which `among` [N] is true.

    Without a `FrechetDistance`: torchmetrics keeps a second copy of its states.
    """
    sums = None
    for positions, features in files.read(feature):
        sums = sums or GroupedSums.zeros(features.shape[1], groups)
        if among is not None:
            features, positions = features[among[positions]], positions[among[positions]]
        sums.add(features, positions)
    assert sums is not None, "there are no images"
    return sums


def check_varied(statistics: Statistics) -> None:
    """
    Raises:
        InputError: all samples have the same features.
    """
    if not bool((statistics.covariance.diagonal() > 0).any()):
        raise InputError(
            "all samples are the same picture as far as the extractor sees; a distance between "
            "distributions says nothing about them. Look at the pictures."
        )


def inception_scores(extractor: Extractor, samples: FeatureFiles, _: Reference) -> Iterator[Score]:
    """Over ten splits in random order, and over splits of 5,000 in order, as ADM's evaluator."""
    logits = samples.all("logits")
    # Both: torch-fidelity's permutes the images first, ADM's does not (`metrics.scores`).
    mean, deviation = inception_score(logits, min(10, len(logits)))
    in_order = inception_score_in_order(logits)
    official = extractor.official and extractor.name == "inception-2015"
    name = "Inception Score" if official else f"IS({extractor.name})"
    details = {"in_file_order": in_order, "splits": min(10, len(logits)), "deviation": deviation}
    yield Score("is", name, mean, "higher", details=details)


def neighbour_scores(
    function: Callable[..., tuple[float, float]], keys: tuple[str, str], k: int
) -> Callable[[Extractor, FeatureFiles, Reference], Iterator[Score]]:
    def scores(
        extractor: Extractor, samples: FeatureFiles, reference: Reference
    ) -> Iterator[Score]:
        main = space_of(extractor).main
        real, fake = kept_features(reference, main), samples.all(main)
        details = {"k": k, "num_reference": len(real), "feature": main}
        for key, value, count in zip(
            keys, function(real, fake, k=k), (len(fake), len(real)), strict=True
        ):
            # Shares of a sample: binomial. Density is none, and has no simple one.
            error = None if key == "density" else (value * (1 - value) / count) ** 0.5
            yield Score(
                key, labelled(key.capitalize(), extractor), value, "higher", error, details=details
            )

    return scores


def kernel_scores(
    extractor: Extractor, samples: FeatureFiles, reference: Reference
) -> Iterator[Score]:
    main = space_of(extractor).main
    real, fake = kept_features(reference, main), samples.all(main)
    size = min(SUBSET_SIZE, len(real), len(fake))
    mean, deviation = kernel_distance(real, fake, subsets=SUBSETS, subset_size=size)
    details = {"subsets": SUBSETS, "subset_size": size, "deviation": deviation, "feature": main}
    # Subsets share images: their deviation says nothing of other samples.
    yield Score("kid", labelled("KID", extractor), mean, details=details)


def cmmd_scores(
    extractor: Extractor, samples: FeatureFiles, reference: Reference
) -> Iterator[Score]:
    real, fake = kept_features(reference, "embedding"), samples.all("embedding")
    yield Score("cmmd", "CMMD", cmmd(real, fake), details={"num_reference": len(real)})


def labelled(name: str, extractor: Extractor) -> str:
    """The plain name in the published space, with the space's name elsewhere."""
    published = extractor.name == "inception-2015" and extractor.official
    return name if published else f"{name}({extractor.name})"


def kept_features(reference: Reference, feature: str) -> Tensor:
    return torch.as_tensor(reference.features[feature])


COMPUTE: dict[str, Callable[[Extractor, FeatureFiles, Reference], Iterator[Score]]] = {
    "frechet": frechet_scores,
    "is": inception_scores,
    "precision-recall": neighbour_scores(precision_recall, ("precision", "recall"), 3),
    "density-coverage": neighbour_scores(density_coverage, ("density", "coverage"), 5),
    "kid": kernel_scores,
    "cmmd": cmmd_scores,
}
# Metrics that need features of the reference, and how many images on each side.
NEEDS_FEATURES = {"precision-recall": 4, "density-coverage": 6, "kid": 2, "cmmd": 2}  # k + 1


def compute(
    extractor: Extractor,
    samples: FeatureFiles,
    reference: Reference,
    metrics: Sequence[str],
) -> tuple[list[Score], list[str]]:
    """The numbers of these metrics, and a sentence for each that cannot be computed."""
    scores: list[Score] = []
    left_out = []
    for name in metrics:
        reason = missing_for(name, space_of(extractor).main, samples, reference)
        if reason is None:
            scores += COMPUTE[name](extractor, samples, reference)
        else:
            left_out.append(f"no {name}: {reason}")
    return scores, left_out


def missing_for(
    metric: str, feature: str, samples: FeatureFiles, reference: Reference
) -> str | None:
    """Why a metric cannot be computed; None if it can."""
    if metric not in NEEDS_FEATURES:
        return None
    if feature not in reference.features:
        return "the reference holds neither images nor features"
    least = NEEDS_FEATURES[metric]
    if min(samples.count, len(reference.features[feature])) < least:
        return f"it needs {least} images on each side"
    return None
