import numpy as np
import pytest
import torch

from gensynth.errors import UsageError
from gensynth.metrics import arrays, density_coverage, nearest, precision_recall, realism

DIM = 5


def features(count: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(0.3 * seed, 1, (count, DIM))


REAL, FAKE = features(60, 0), features(45, 1, scale=1.2)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a - b) ** 2).sum()))


def plain_radius(rows: np.ndarray, number: int, k: int) -> float:
    others = [distance(rows[number], row) for i, row in enumerate(rows) if i != number]
    return sorted(others)[k - 1]


def plain_radii(rows: np.ndarray, k: int) -> list[float]:
    return [plain_radius(rows, number, k) for number in range(len(rows))]


def share_inside(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    radii = plain_radii(centres, k)
    inside = [
        any(distance(point, centre) <= r for centre, r in zip(centres, radii, strict=True))
        for point in points
    ]
    return sum(inside) / len(points)


@pytest.fixture(params=[3, 16, 2048], autouse=True)
def block(request, monkeypatch):
    """Every result is the same whatever the size of the blocks."""
    monkeypatch.setattr(arrays, "BLOCK", request.param)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_against_a_double_loop(k):
    expected = share_inside(FAKE, REAL, k), share_inside(REAL, FAKE, k)
    assert min(expected) > 0.1 and max(expected) < 1 and expected[0] != expected[1]
    assert precision_recall(REAL, FAKE, k) == expected
    assert precision_recall(torch.from_numpy(FAKE), REAL, k) == expected[::-1]


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_against_a_double_loop(k):
    radii = plain_radii(REAL, k)
    inside = np.array(
        [[distance(real, fake) < r for fake in FAKE] for real, r in zip(REAL, radii, strict=True)]
    )
    density, coverage = density_coverage(REAL, FAKE, k)
    assert density == pytest.approx(inside.sum() / (k * len(FAKE)), rel=1e-12)
    assert coverage == pytest.approx(inside.any(1).mean(), rel=1e-12)


def test_realism_against_a_double_loop():
    radii = plain_radii(REAL, 3)
    expected = [
        max(r / distance(real, fake) for real, r in zip(REAL, radii, strict=True)) for fake in FAKE
    ]
    found = realism(REAL, FAKE)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert float((found >= 1).double().mean()) == precision_recall(REAL, FAKE)[0]
    assert realism(REAL, REAL[:4]).isinf().all()


def test_nearest():
    squared, numbers = nearest(torch.from_numpy(FAKE), torch.from_numpy(REAL), 3)
    for fake, found, chosen in zip(FAKE, squared, numbers, strict=True):
        distances = np.array([distance(fake, real) for real in REAL])
        assert chosen.tolist() == np.argsort(distances)[:3].tolist()
        np.testing.assert_allclose(found.sqrt(), np.sort(distances)[:3], rtol=1e-9)


def test_copies():
    assert precision_recall(REAL, REAL) == (1, 1)
    assert density_coverage(REAL, REAL)[1] == 1
    same = np.full((8, DIM), 0.1)
    assert precision_recall(same, same) == (1, 1)  # balls without extent
    assert precision_recall(same, same + 1) == (0, 0)
    # Numbers with an error in every digit: the distance of copies is still exactly 0.
    far = 1e3 * np.pi * np.repeat(features(3, 2), 4, axis=0)
    assert precision_recall(far, far[::-1]) == (1, 1)


def test_sets_apart():
    assert precision_recall(REAL, FAKE + 100) == (0, 0)
    assert density_coverage(REAL, FAKE + 100) == (0, 0)


@pytest.mark.parametrize("k", [4, 10])
def test_not_enough_neighbours(k):
    with pytest.raises(UsageError, match=f"k = {k} neighbours .* fake has 4"):
        precision_recall(REAL, FAKE[:4], k)
    with pytest.raises(UsageError, match=f"k = {k} neighbours .* real has 4"):
        density_coverage(REAL[:4], FAKE, k)
    with pytest.raises(UsageError, match="k = 0 neighbours"):
        realism(REAL, FAKE, 0)


def test_no_images():
    with pytest.raises(UsageError, match=r"\(0, 5\) and \(45, 5\)"):
        precision_recall(REAL[:0], FAKE)
