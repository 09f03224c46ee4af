import numpy as np
import pytest
import torch

from gensynth.errors import UsageError
from gensynth.metrics import inception_score, inception_score_in_order

CLASSES = 12


def logits(count: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (count, CLASSES))


def plain_score(part: np.ndarray) -> float:
    """As the definition has it, with softmax in float64."""
    given = np.exp(part) / np.exp(part).sum(1, keepdims=True)
    divergence = (given * (np.log(given) - np.log(given.mean(0)))).sum(1)
    return float(np.exp(divergence.mean()))


def test_nothing_recognised_scores_one():
    mean, deviation = inception_score(np.full((50, CLASSES), 3.0))
    assert mean == pytest.approx(1, abs=1e-12)
    assert deviation == pytest.approx(0, abs=1e-12)


def test_every_class_alike_scores_the_number_of_classes():
    sure = 2000 * torch.eye(CLASSES).repeat(10, 1)  # the other probabilities underflow to 0
    mean, deviation = inception_score(sure, splits=10, seed=None)
    assert mean == pytest.approx(CLASSES, rel=1e-12)
    assert deviation == pytest.approx(0, abs=1e-12)
    assert inception_score_in_order(sure, CLASSES) == pytest.approx(CLASSES, rel=1e-12)


@pytest.mark.parametrize(("count", "splits"), [(120, 10), (25, 10), (7, 7), (23, 1)])
def test_splits(count, splits):
    rows = logits(count)
    parts = [rows[i * count // splits : (i + 1) * count // splits] for i in range(splits)]
    scores = [plain_score(part) for part in parts]
    mean, deviation = inception_score(rows, splits, seed=None)
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert deviation == pytest.approx(np.std(scores), rel=1e-9, abs=1e-12)


def test_the_permutation_is_that_of_the_seed():
    rows = logits()
    order = np.random.RandomState(5).permutation(len(rows))
    assert inception_score(rows, seed=5) == inception_score(rows[order], seed=None)
    assert inception_score(rows) == inception_score(rows, 10, seed=2020)
    assert inception_score(rows) != inception_score(rows, seed=5)


@pytest.mark.parametrize("size", [7, 100, 5000])
def test_in_order_the_last_split_is_shorter(size):
    rows = logits()
    scores = [plain_score(rows[i : i + size]) for i in range(0, len(rows), size)]
    assert inception_score_in_order(rows, size) == pytest.approx(np.mean(scores), rel=1e-12)


def test_images_sorted_by_class_score_lower_in_their_order():
    rows = torch.from_numpy(logits(600)) + 12 * torch.eye(CLASSES).repeat_interleave(50, 0)
    shuffled, _ = inception_score(rows)
    ordered, _ = inception_score(rows, seed=None)
    assert ordered < 0.5 * shuffled


@pytest.mark.parametrize("splits", [0, 9])
def test_more_splits_than_images(splits):
    with pytest.raises(UsageError, match=f"number of rows, 8, got {splits}"):
        inception_score(logits(8), splits)


def test_no_images():
    with pytest.raises(UsageError, match="0 rows of logits"):
        inception_score_in_order(logits(0))
