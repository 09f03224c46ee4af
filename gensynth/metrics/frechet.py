"""The Fréchet distance of two sets of features, and how sure it is."""

from dataclasses import dataclass

import torch

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_tensor
from gensynth.metrics.moments import GroupedSums, Statistics, check_not_negative

REGULAR = 5  # images for each feature from which the bias falls as 1 / count


@dataclass(frozen=True)
class FrechetEstimate:
    """A distance and how sure it is.

    Attributes:
        value: the distance, `mean_term` + `covariance_term`.
        standard_error: of the value over sets of generated images of this size, by the jackknife;
            None if a group of images is empty.
        corrected: the value without the bias of a finite number of generated images, by the
            jackknife; None with fewer than 5 images for each feature, where it would be wrong.
        num_real: None if the reference does not say.
    """

    value: float
    mean_term: float
    covariance_term: float
    standard_error: float | None
    corrected: float | None
    num_real: int | None
    num_generated: int


def frechet_distance(
    mu1: Array, sigma1: Array, mu2: Array, sigma2: Array, *, root1: Array | None = None
) -> float:
    """|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)) (arXiv 1706.08500, eq. 6).

    Args:
        mu1, mu2: means [D] of any float type; computed in float64.
        sigma1, sigma2: covariances [D, D].
        root1: [D, D] with root1 root1^T = sigma1, if it is at hand.

    Raises:
        UsageError: shapes that do not fit, NaN or infinite values, or no covariance matrix.
    """
    root = None if root1 is None else as_tensor("root1", root1)
    names = ("mu1", "sigma1", "root1")
    one = Statistics(as_tensor("mu1", mu1), as_tensor("sigma1", sigma1), root=root, names=names)
    names = ("mu2", "sigma2", "root2")
    other = Statistics(as_tensor("mu2", mu2), as_tensor("sigma2", sigma2), names=names)
    if one.mean.shape != other.mean.shape:
        raise UsageError(
            f"mu1 {tuple(one.mean.shape)} and mu2 {tuple(other.mean.shape)} must be of one length."
        )
    other = other.to(one.mean.device)
    if root is None and torch.linalg.cholesky_ex(one.covariance).info:
        # Its root would take eigenvectors, several times the rest; that of the other may not.
        one, other = other, one
    return sum(distance_terms(one, other))


def distance_terms(one: Statistics, other: Statistics) -> tuple[float, float]:
    """What the means and what the covariances add to the distance, neither below 0.

    The trace of the root of the product is the sum of the roots of the eigenvalues of
    R^T sigma2 R with R R^T = sigma1: symmetric throughout, and right also with fewer images than
    features. R of the first is computed once and kept.

    Raises:
        UsageError: one is no covariance matrix.
    """
    # [D, K]: tr (S1 S2)^(1/2) = tr (R^T S2 R)^(1/2), of which the right side is symmetric
    root = one.with_root().root
    assert root is not None
    root = root[:, root.any(0)]  # a covariance of low rank has a smaller product
    product = root.T @ other.covariance @ root
    # symmetric but for rounding, which eigvalsh would see in one of the triangles only
    values = torch.linalg.eigvalsh((product + product.T) / 2)
    check_not_negative(values, one.covariance.norm() * other.covariance.norm())
    # clamp: rounding puts eigenvalues that are 0 slightly below
    trace = float(one.covariance.trace() + other.covariance.trace())
    covariance_term = trace - 2 * float(values.clamp(min=0).sqrt().sum())
    assert covariance_term >= -1e-6 * trace, "the covariances are not positive semi-definite"
    return float((one.mean - other.mean).square().sum()), max(0.0, covariance_term)


def frechet_estimate(real: Statistics, generated: GroupedSums) -> FrechetEstimate:
    """The distance with its standard error and without its bias, by leaving out a group in turn.

    The delete-a-group jackknife: B. Efron, The Jackknife, the Bootstrap and Other Resampling
    Plans (1982), chapters 2 and 3. Only the generated images are left out: the error and the bias
    of the reference stay.

    Raises:
        UsageError: fewer than two generated images.
    """
    statistics = generated.statistics()
    mean_term, covariance_term = distance_terms(real, statistics)
    value, count, groups = mean_term + covariance_term, statistics.count, len(generated.count)
    assert count is not None
    error = corrected = None
    if groups > 1 and generated.count.min() > 0 and count - generated.count.max() > 1:
        parts = (generated.statistics(without=group) for group in range(groups))
        values = [sum(distance_terms(real, part)) for part in parts]
        others = torch.tensor(values, dtype=torch.float64)
        # (G - 1) / G times the sum of squared deviations: the jackknife's variance
        error = float((others.var(correction=0) * (groups - 1)).sqrt())
        if count >= REGULAR * len(real.mean):
            # the bias falls as 1 / count, which this extrapolates to 0
            corrected = groups * value - (groups - 1) * float(others.mean())
    return FrechetEstimate(value, mean_term, covariance_term, error, corrected, real.count, count)
