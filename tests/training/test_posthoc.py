"""The maths of power-function averages."""

import numpy as np
import pytest

from gensynth.training.averages.export import reachable
from gensynth.training.averages.posthoc import (
    coefficients,
    exponent_to_std,
    power_beta,
    profile_error,
    response,
    std_to_exponent,
)


def test_exponent_and_std_are_inverse():
    stds = np.linspace(0.01, 12**-0.5, 50)
    assert exponent_to_std(std_to_exponent(stds)) == pytest.approx(stds, rel=1e-13)
    assert std_to_exponent(12**-0.5) == pytest.approx(0, abs=1e-12)  # the plain mean


@pytest.mark.parametrize("std", [0, -0.1, 0.3, float("nan")])
def test_std_without_a_profile_is_refused(std):
    with pytest.raises(ValueError, match="std must be above 0"):
        std_to_exponent(std)


def test_updates_add_up_to_the_profile():
    """Many updates weigh the steps as the response says, up to the step's width."""
    num, shares = 2000, np.zeros(2000)
    for step in range(1, num + 1):
        beta = power_beta(0.1, step)
        shares *= beta
        shares[step - 1] = 1 - beta
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    steps = np.arange(1, num + 1)
    mean = (shares * steps).sum()
    assert np.sqrt((shares * (steps - mean) ** 2).sum()) / num == pytest.approx(0.1, rel=1e-2)
    assert np.abs(response(num, 0.1, num + 1)[1:] - shares).sum() < 0.01


def test_a_stored_average_is_its_own_reconstruction():
    t, std = np.repeat([4, 8, 12], 2), np.tile([0.05, 0.1], 3)
    shares = coefficients(t, std, 12, [0.05, 0.1, 0.08])
    assert shares[:, 0] == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-9)
    assert shares[:, 1] == pytest.approx([0, 0, 0, 0, 0, 1], abs=1e-9)
    error = profile_error(t, std, 12, [0.05, 0.1, 0.08], shares)
    assert error[:2] == pytest.approx(0, abs=1e-6) and 0.03 < error[2] < 0.05


def test_more_snapshots_reach_further():
    def widths(num):
        return reachable(np.repeat(np.arange(1, num + 1), 2), np.tile([0.05, 0.1], num))

    assert widths(1) == "0.039 to 0.122"
    assert widths(80) == "0.010 to 0.250"
