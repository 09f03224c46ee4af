import numpy as np
import pytest
import torch

from gensynth.metrics import (
    FrechetDistance,
    FrechetEstimate,
    GroupedSums,
    Statistics,
    frechet_distance,
    frechet_estimate,
)
from gensynth.metrics.moments import group_of

DIM = 6


def features(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)) + seed


def estimate(real: torch.Tensor, generated: torch.Tensor, groups: int) -> FrechetEstimate:
    metric = FrechetDistance(DIM, groups=groups)
    metric.update(real, real=True)
    metric.update(generated)
    return metric.estimate()


def test_the_jackknife_leaves_out_a_group_in_turn():
    groups, real, generated = 4, Statistics.of(features(200, 0)), features(90, 1)
    found = estimate(features(200, 0), generated, groups)
    group = group_of(torch.arange(90), groups)
    parts = np.array(
        [
            frechet_distance(real.mean, real.covariance, part.mean, part.covariance)
            for part in (Statistics.of(generated[group != number]) for number in range(groups))
        ]
    )
    error = np.sqrt((groups - 1) / groups * ((parts - parts.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.corrected == pytest.approx(
        groups * found.value - (groups - 1) * parts.mean(), rel=1e-9
    )
    assert found.value == found.mean_term + found.covariance_term
    apart = float((real.mean - generated.double().mean(0)).square().sum())
    assert found.mean_term == pytest.approx(apart)
    assert (found.num_real, found.num_generated) == (200, 90)


@pytest.mark.parametrize(
    ("count", "groups", "has_error", "has_correction"),
    [(30, 10, True, True), (29, 10, True, False), (9, 10, False, False), (30, 1, False, False)],
)
def test_when_the_jackknife_says_nothing(count, groups, has_error, has_correction):
    found = estimate(features(40, 0), features(count, 1), groups)
    assert (found.standard_error is not None) == has_error
    assert (found.corrected is not None) == has_correction


def test_the_jackknife_on_gaussians():
    """The standard error is the scatter of repetitions, and the correction removes the bias."""
    dim, count, repeats = 32, 600, 60
    real = Statistics(torch.zeros(dim), torch.eye(dim))
    truth = 0.01 * dim + dim * 0.1**2  # means 0.1 and deviations 0.1 apart
    found = []
    for seed in range(repeats):
        generator = torch.Generator().manual_seed(seed)
        rows = 1.1 * torch.randn(count, dim, generator=generator) + 0.1
        sums = GroupedSums.zeros(dim, groups=10)
        sums.add(rows, torch.arange(count))
        found.append(frechet_estimate(real, sums))
    values = np.array([one.value for one in found])
    corrected = np.array([one.corrected for one in found])
    errors = np.array([one.standard_error for one in found])
    assert 0.75 < errors.mean() / values.std(ddof=1) < 1.35
    assert values.mean() - truth > 5 * values.std() / repeats**0.5  # the bias is there to remove
    assert abs(corrected.mean() - truth) < 0.25 * (values.mean() - truth)
    assert corrected.std() < 1.5 * values.std()


def test_classes_drawn_in_turn_do_not_inflate_the_standard_error():
    """Ten classes far apart, image i of class i mod 10, in ten groups."""
    real = Statistics(torch.zeros(4), torch.eye(4))
    centres = 5 * torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    values, errors = [], []
    for seed in range(40):
        noise = torch.randn(1000, 4, generator=torch.Generator().manual_seed(seed))
        sums = GroupedSums.zeros(4, groups=10)
        sums.add(centres.repeat(100, 1) + noise, torch.arange(1000))
        found = frechet_estimate(real, sums)
        values.append(found.value)
        errors.append(found.standard_error)
    assert 0.7 < np.mean(errors) / np.std(values, ddof=1) < 1.4
