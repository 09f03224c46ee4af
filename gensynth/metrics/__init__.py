"""Numbers from features of images. What makes features of images is in `extractors`."""

from gensynth.metrics.frechet import (
    FrechetDistance,
    FrechetEstimate,
    frechet_distance,
    frechet_estimate,
)
from gensynth.metrics.kernel import CMMD, KernelDistance, cmmd, kernel_distance, polynomial, rbf
from gensynth.metrics.manifold import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    nearest,
    precision_recall,
    realism,
)
from gensynth.metrics.moments import GroupedSums, Statistics, root_of
from gensynth.metrics.scores import (
    InceptionScore,
    inception_score,
    inception_score_in_order,
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
    "cmmd",
    "density_coverage",
    "frechet_distance",
    "frechet_estimate",
    "inception_score",
    "inception_score_in_order",
    "kernel_distance",
    "nearest",
    "polynomial",
    "precision_recall",
    "rbf",
    "realism",
    "root_of",
]
