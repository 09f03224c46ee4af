"""Numbers from features of images. What makes features of images is in `extractors`.

Each metric is a function of features and, for a loop of your own, a torchmetrics object.
"""

from typing import TYPE_CHECKING, Any

from gensynth.metrics.copies import copied
from gensynth.metrics.frechet import FrechetEstimate, frechet_distance, frechet_estimate
from gensynth.metrics.kernel import cmmd, kernel_distance, polynomial, rbf
from gensynth.metrics.manifold import density_coverage, nearest, precision_recall, realism
from gensynth.metrics.moments import GroupedSums, Statistics, root_of
from gensynth.metrics.retrieval import clip_scores, own_ranks, recall
from gensynth.metrics.scores import inception_score, inception_score_in_order

if TYPE_CHECKING:
    from gensynth.metrics.as_torchmetrics import (
        CMMD,
        DensityCoverage,
        FrechetDistance,
        InceptionScore,
        KernelDistance,
        PrecisionRecall,
    )

__all__ = [
    "CMMD",
    "DensityCoverage",
    "FrechetDistance",
    "FrechetEstimate",
    "GroupedSums",
    "InceptionScore",
    "KernelDistance",
    "PrecisionRecall",
    "Statistics",
    "clip_scores",
    "cmmd",
    "copied",
    "density_coverage",
    "frechet_distance",
    "frechet_estimate",
    "inception_score",
    "inception_score_in_order",
    "kernel_distance",
    "nearest",
    "own_ranks",
    "polynomial",
    "precision_recall",
    "rbf",
    "realism",
    "recall",
    "root_of",
]


def __getattr__(name: str) -> Any:
    # What is in `__all__` and not there yet is one of the classes, which need torchmetrics.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gensynth.metrics import as_torchmetrics

    globals()[name] = getattr(as_torchmetrics, name)  # found at once the next time
    return globals()[name]
