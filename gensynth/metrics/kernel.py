"""Distances of two sets of features by kernels: KID and CMMD."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_pair, pair_blocks, squared_distances

Kernel = Callable[[Tensor, Tensor], Tensor]  # float64 [N, D] and [M, D] -> [N, M]
CMMD_SCALE = 1000  # of google-research/cmmd, distance.py


def polynomial(degree: int = 3, gamma: float | None = None, coef0: float = 1.0) -> Kernel:
    """(gamma x.y + coef0)^degree, gamma 1 / D if left out: KID's kernel (arXiv 1801.01401)."""
    return partial(_polynomial, degree=degree, gamma=gamma, coef0=coef0)


def _polynomial(x: Tensor, y: Tensor, *, degree: int, gamma: float | None, coef0: float) -> Tensor:
    scale = 1 / x.shape[1] if gamma is None else gamma
    return (x @ y.T * scale + coef0) ** degree


def rbf(sigma: float) -> Kernel:
    """exp(-|x - y|^2 / (2 sigma^2))."""
    return partial(_rbf, sigma=sigma)


def _rbf(x: Tensor, y: Tensor, *, sigma: float) -> Tensor:
    return _gaussian(squared_distances(x, y), sigma)


def _gaussian(squared: Tensor, sigma: float) -> Tensor:
    return (squared / (-2 * sigma**2)).exp()


def kernel_distance(
    real: Array,
    fake: Array,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
    kernel: Kernel | None = None,
) -> tuple[float, float]:
    """Mean and standard deviation over subsets of the squared MMD, unbiased (arXiv 1801.01401).

    The subsets are those of torch-fidelity 0.4: drawn from fake, then from real, by one
    `RandomState(seed)`.

    Args:
        real, fake: features [N, D] and [M, D].
        kernel: `polynomial()` unless given.

    Raises:
        UsageError: other shapes, NaN or infinite values, or a subset larger than a set.
    """
    real, fake = as_pair(real, fake)
    if not 2 <= subset_size <= min(len(real), len(fake)) or subsets < 1:
        raise UsageError(
            f"{subsets} subsets of {subset_size} rows cannot be drawn from {len(real)} real and "
            f"{len(fake)} fake ones; choose a subset_size from 2 to the smaller number."
        )
    random = np.random.RandomState(seed)  # numpy's old generator: torch-fidelity draws with it

    def draw(rows: Tensor) -> Tensor:
        chosen = random.choice(len(rows), subset_size, replace=False)
        return rows[torch.from_numpy(chosen).to(rows.device)].double()

    distances = torch.stack(
        [unbiased_mmd(draw(fake), draw(real), kernel or polynomial()) for _ in range(subsets)]
    )
    return float(distances.mean()), float(distances.std(correction=0))


def unbiased_mmd(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Squared MMD of float64 [N, D] and [M, D], the unbiased estimate (arXiv 1801.01401, eq. 4)."""

    def within(rows: Tensor) -> Tensor:
        values = kernel(rows, rows)
        # without the diagonal, a pair of an image with itself: that makes it unbiased
        return (values.sum() - values.trace()) / (len(rows) * (len(rows) - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()


def cmmd(real: Array, fake: Array, *, sigma: float = 10.0) -> float:
    """1000 times the squared MMD with a Gaussian kernel, the biased estimate (arXiv 2401.09603).

    Args:
        real, fake: CLIP embeddings [N, D] and [M, D] of length 1.

    Raises:
        UsageError: other shapes, or NaN or infinite values.
    """
    real, fake = as_pair(real, fake)

    def mean(x: Tensor, y: Tensor) -> float:
        # block by block: N x M kernel values of 30,000 images would take 7 GB
        sums = [_gaussian(squared, sigma).sum() for _, _, squared in pair_blocks(x, y)]
        return float(torch.stack(sums).sum()) / (len(x) * len(y))

    return CMMD_SCALE * (mean(real, real) + mean(fake, fake) - 2 * mean(real, fake))
