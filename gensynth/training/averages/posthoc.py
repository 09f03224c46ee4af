"""Power-function averages and their reconstruction after training (EDM2, arXiv 2312.02696).

At time t an average of exponent γ weighs the state at time τ by the profile
p(τ) = (γ + 1) τ^γ / t^(γ + 1), 0 <= τ <= t. Its relative standard deviation `std` = σ / t names it.
Times may be in any unit (steps here, images there) as long as it is the same everywhere.
All in float64: the linear system of `coefficients` is badly conditioned.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
# Profiles wider than this are those of negative exponents: they weigh the start most.
LARGEST_STD = 12**-0.5


def exponent_to_std(exponent: ArrayLike) -> Any:
    """Relative standard deviation of the profile of `exponent` > -1 (equation 123)."""
    exponent = np.asarray(exponent, np.float64)
    return np.sqrt((exponent + 1) / (exponent + 3)) / (exponent + 2)


def std_to_exponent(std: ArrayLike) -> Any:
    """Exponent >= 0 of the profile of relative standard deviation `std` (equation 126).

    Raises:
        ValueError: `std` is not in (0, 1/sqrt(12)].
    """
    std = np.asarray(std, np.float64)
    if not np.all((std > 0) & (std <= LARGEST_STD)):
        raise ValueError(f"std must be above 0 and at most {LARGEST_STD:.4f}, got {std}")
    # With m = exponent + 2, equation 123 reads m³ + m² - m/std² + 1/std² = 0. All three roots are
    # real; the cosine gives the largest one of y³ - p y + q = 0, y = m + 1/3.
    p = std**-2 + 1 / 3
    q = std**-2 * 4 / 3 + 2 / 27
    angle = np.arccos(-q / 2 * (3 / p) ** 1.5)
    return 2 * np.sqrt(p / 3) * np.cos(angle / 3) - 7 / 3


def power_beta(std: ArrayLike, t_next: ArrayLike, t_delta: ArrayLike = 1) -> Any:
    """Share of the old average in an update that brings it from t_next - t_delta to `t_next`.

    0 in the first update (t_delta = t_next), so the start never matters (equation 127).
    """
    # (1 - t_delta / t_next)^(exponent + 1)
    share = 1 - np.asarray(t_delta, np.float64) / np.asarray(t_next, np.float64)
    return share ** (std_to_exponent(std) + 1)


def halflife_beta(
    halflife: float, t_next: ArrayLike, t_delta: ArrayLike = 1, ramp: float | None = 0.09
) -> Any:
    """EDM's classic average: the old share halves every `halflife`, at most `ramp` of the time."""
    t_next = np.asarray(t_next, np.float64)
    length = halflife if ramp is None else np.minimum(halflife, t_next * ramp)
    return 0.5 ** (np.asarray(t_delta, np.float64) / length)


def response(t: ArrayLike, std: ArrayLike, num: int) -> Array:
    """Profiles of averages taken at `t`, at the times 0, 1, ..., num - 1: [num, *shape].

    Zero after `t`; each sums to 1 (equations 108 and 121). `t` and `std` broadcast.
    """
    t, exponent = np.broadcast_arrays(np.asarray(t, np.float64), std_to_exponent(std))
    times = np.arange(num, dtype=np.float64).reshape(-1, *[1] * t.ndim)
    weight = np.where(times <= t, times / t, 0) ** exponent
    return weight / weight.sum(axis=0)


def correlation(a_t: ArrayLike, a_std: ArrayLike, b_t: ArrayLike, b_std: ArrayLike) -> Any:
    """Inner product of two profiles, averages taken at `a_t` and `b_t` (equation 151).

    Broadcasts.
    """
    a_t, b_t = np.asarray(a_t, np.float64), np.asarray(b_t, np.float64)
    a, b = std_to_exponent(a_std), std_to_exponent(b_std)
    # Both are non-zero only up to the earlier time, where the later one's profile is a power.
    overlap = np.minimum(a_t / b_t, 1) ** b * np.minimum(b_t / a_t, 1) ** a
    return (a + 1) * (b + 1) / (a + b + 1) * overlap / np.maximum(a_t, b_t)


def coefficients(t: ArrayLike, std: ArrayLike, out_t: ArrayLike, out_std: ArrayLike) -> Array:
    """Weights by which stored averages add up to others: [stored, wanted], columns sum to 1.

    Least squares between profiles (algorithm 3). `t` and `std` of the stored ones are [stored], of
    the wanted ones [wanted] or scalar.
    """
    gram, target, _ = _products(t, std, out_t, out_std)
    # Normal equations: inner products of stored profiles with each other, and with the wanted.
    solution = np.linalg.solve(gram, target)
    return solution / solution.sum(axis=0)  # a mean of weights has shares that sum to 1


def profile_error(
    t: ArrayLike, std: ArrayLike, out_t: ArrayLike, out_std: ArrayLike, weights: Array
) -> Array:
    """How far `weights` [stored, wanted] miss the wanted profiles: [wanted].

    The L2 distance over the norm of the wanted profile; 0 is exact. The other arguments are those
    of `coefficients`.
    """
    gram, target, square = _products(t, std, out_t, out_std)
    # |sum w p - wanted|^2 = w G w - 2 w t + s, without the profiles themselves
    distance = (weights * (gram @ weights - 2 * target)).sum(axis=0) + square
    return np.sqrt(np.maximum(distance, 0) / square)


def _products(
    t: ArrayLike, std: ArrayLike, out_t: ArrayLike, out_std: ArrayLike
) -> tuple[Array, Array, Array]:
    """Inner products [stored, stored], [stored, wanted] and, wanted with themselves, [wanted]."""
    t, std = np.broadcast_arrays(np.atleast_1d(t), std)
    out_t, out_std = np.broadcast_arrays(np.atleast_1d(out_t), out_std)
    return (
        correlation(t[:, None], std[:, None], t, std),
        correlation(t[:, None], std[:, None], out_t, out_std),
        correlation(out_t, out_std, out_t, out_std),
    )
