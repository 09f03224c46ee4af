"""Which images lie among the others: precision, recall, density, coverage, realism, neighbours.

A set of images is taken for the union of balls around its features, each as large as the distance
to the k-th nearest other feature of the set (arXiv 1904.06991).
"""

import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_pair, pair_blocks


def nearest(queries: Tensor, points: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Squared distances (float64) and numbers [N, k] of the k points nearest to each query.

    Args:
        queries, points: features [N, D] and [M, D], k <= M.
    """
    shape, device = (len(queries), k), queries.device
    distances = torch.full(shape, torch.inf, dtype=torch.float64, device=device)
    numbers = torch.zeros(shape, dtype=torch.int64, device=device)
    for rows, columns, squared in pair_blocks(queries, points):
        # the best of this block beside the best so far, so that memory is that of a block
        found, at = squared.topk(min(k, squared.shape[1]), largest=False)
        found = torch.cat([distances[rows], found], 1)
        at = torch.cat([numbers[rows], at + columns.start], 1)
        distances[rows], order = found.topk(k, largest=False)
        numbers[rows] = at.gather(1, order)
    return distances, numbers


def squared_radii(name: str, features: Tensor, k: int) -> Tensor:
    """Squared distance [N] of each row of features [N, D] to its k-th nearest other row.

    Raises:
        UsageError: there are not as many others.
    """
    if not 1 <= k < len(features):
        raise UsageError(
            f"k = {k} neighbours need 1 <= k < number of rows, {name} has {len(features)}."
        )
    return nearest(features, features, k + 1)[0][:, k]  # the nearest of all is the row itself


def precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[float, float]:
    """Share of fake in the balls of real, and of real in the balls of fake (arXiv 1904.06991).

    ADM's evaluator rounds distances to half precision where it can, which raises both by some
    thousandths; here they are exact.

    Args:
        real, fake: features [N, D] and [M, D].
        k: which neighbour a ball reaches.

    Raises:
        UsageError: other shapes, NaN or infinite values, or not more than k rows.
    """
    real, fake = as_pair(real, fake)
    real_radii, fake_radii = squared_radii("real", real, k), squared_radii("fake", fake, k)
    precise = torch.zeros(len(fake), dtype=torch.bool, device=real.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, columns, squared in pair_blocks(real, fake):
        # `<=`: the surface belongs to the ball, as in ADM's evaluator
        precise[columns] |= (squared <= real_radii[rows, None]).any(0)
        recalled[rows] |= (squared <= fake_radii[columns]).any(1)
    return float(precise.double().mean()), float(recalled.double().mean())


def density_coverage(real: Array, fake: Array, k: int = 5) -> tuple[float, float]:
    """How many balls of real a fake image is in, over k; share of balls of real with a fake image.

    arXiv 2002.09797, equations 3 and 4; as in clovaai/generative-evaluation-prdc the surface of a
    ball is not part of it.

    Args:
        real, fake: features [N, D] and [M, D].
        k: which neighbour a ball reaches.

    Raises:
        UsageError: other shapes, NaN or infinite values, or not more than k real rows.
    """
    real, fake = as_pair(real, fake)
    radii = squared_radii("real", real, k)
    inside = torch.zeros((), dtype=torch.int64, device=real.device)
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, _, squared in pair_blocks(real, fake):
        within = squared < radii[rows, None]  # [rows of real, columns of fake]
        inside += within.sum()
        covered[rows] |= within.any(1)
    return int(inside) / (k * len(fake)), float(covered.double().mean())


def realism(real: Array, fake: Array, k: int = 3) -> Tensor:
    """How deep each fake image is in a ball of real, float64 [M]: max of radius / distance.

    arXiv 1904.06991, equation 3, with every ball of real (the paper leaves out the larger half).
    1 is the surface of a ball; a copy of a real image has infinity.

    Args:
        real, fake: features [N, D] and [M, D].
        k: which neighbour a ball reaches.

    Raises:
        UsageError: other shapes, NaN or infinite values, or not more than k real rows.
    """
    real, fake = as_pair(real, fake)
    radii = squared_radii("real", real, k)
    depth = torch.zeros(len(fake), dtype=torch.float64, device=real.device)
    for rows, columns, squared in pair_blocks(real, fake):
        ratios = torch.where(squared > 0, radii[rows, None] / squared, torch.inf)
        depth[columns] = torch.maximum(depth[columns], ratios.amax(0))
    return depth.sqrt()  # the ratios were of squared distances
