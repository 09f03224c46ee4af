import math

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from gensynth.errors import UsageError
from gensynth.metrics import arrays, cmmd, kernel_distance, polynomial, rbf
from gensynth.metrics.kernel import unbiased_mmd

DIM = 7


def features(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.2 * seed, 1, (count, DIM))


def mean_of_pairs(x: np.ndarray, y: np.ndarray, kernel, same: bool) -> float:
    """The plain definition: a double loop, without i = j if x and y are one set."""
    values = [kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(y) if not same or i != j]
    return sum(values) / len(values)


KERNELS = {
    "kid": (polynomial(), lambda a, b: (a @ b / DIM + 1) ** 3),
    "polynomial": (polynomial(2, 0.3, 0.5), lambda a, b: (0.3 * (a @ b) + 0.5) ** 2),
    "rbf": (rbf(1.5), lambda a, b: math.exp(-((a - b) ** 2).sum() / (2 * 1.5**2))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_against_a_double_loop(name):
    kernel, plain = KERNELS[name]
    x, y = features(30, 0), features(30, 1)
    expected = (
        mean_of_pairs(x, x, plain, same=True)
        + mean_of_pairs(y, y, plain, same=True)
        - 2 * mean_of_pairs(x, y, plain, same=False)
    )
    found = unbiased_mmd(torch.from_numpy(x), torch.from_numpy(y), kernel)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    mean, deviation = kernel_distance(x, y, subsets=3, subset_size=30, kernel=kernel)
    assert mean == pytest.approx(expected, rel=1e-11)  # every subset is the whole set
    assert deviation < 1e-11 * abs(mean)


def test_subsets_are_those_of_the_random_state():
    real, fake = features(50, 0), features(40, 1)
    random, expected = np.random.RandomState(7), []
    for _ in range(5):
        one = fake[random.choice(40, 20, replace=False)]
        other = real[random.choice(50, 20, replace=False)]
        expected.append(float(poly_mmd(torch.from_numpy(other), torch.from_numpy(one))))
    mean, deviation = kernel_distance(real, fake, subsets=5, subset_size=20, seed=7)
    assert mean == pytest.approx(np.mean(expected), rel=1e-12)
    assert deviation == pytest.approx(np.std(expected), rel=1e-10)
    again = kernel_distance(torch.from_numpy(real), fake, subsets=5, subset_size=20, seed=7)
    assert again == (mean, deviation)
    assert kernel_distance(real, fake, subsets=5, subset_size=20, seed=8) != again


def test_it_is_unbiased():
    """Between two samples of one distribution it is 0 on average."""
    found = []
    for seed in range(60):
        rows = np.random.default_rng(seed).normal(0, 1, (80, DIM))
        found.append(kernel_distance(rows[:40], rows[40:], subsets=1, subset_size=40)[0])
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found)) < 3 * error
    assert error < 0.02  # with the diagonals it would be 0.3


@pytest.mark.parametrize("size", [1, 31, 1000])
def test_subsets_that_cannot_be_drawn(size):
    with pytest.raises(UsageError, match=f"100 subsets of {size} rows .* 40 real and 30 fake"):
        kernel_distance(features(40, 0), features(30, 1), subset_size=size)


def test_sets_of_other_features():
    with pytest.raises(UsageError, match=r"\(9, 7\) and \(9, 5\)"):
        kernel_distance(features(9, 0), features(9, 1)[:, :5], subset_size=4)
    with pytest.raises(UsageError, match="fake holds NaN"):
        cmmd(features(9, 0), features(9, 1) * np.nan)


def unit(count: int, seed: int) -> np.ndarray:
    rows = features(count, seed)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [4, 13, 2048])
def test_cmmd_against_a_double_loop(block, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", block)
    x, y = unit(30, 0), unit(25, 1)

    def plain(a, b):
        return math.exp(-((a - b) ** 2).sum() / (2 * 10**2))

    expected = 1000 * (
        mean_of_pairs(x, x, plain, same=False)
        + mean_of_pairs(y, y, plain, same=False)
        - 2 * mean_of_pairs(x, y, plain, same=False)
    )
    # The three means are close to 1, so 1e-12 of the result is more than float64 has.
    assert cmmd(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert expected > 0.1
    assert cmmd(x, x) == pytest.approx(0, abs=1e-12)
    assert cmmd(x, y, sigma=1.0) > cmmd(x, y)
