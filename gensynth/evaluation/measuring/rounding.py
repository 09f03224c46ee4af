"""Numbers rounded to their significant digits."""

import math


def number(value: float) -> str:
    """With its significant digits: 0.8123, 12.34, 358.9."""
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def rounded(value: float, error: float | None) -> tuple[str, str]:
    """A value and its standard error to two digits of the error: "20.14", "0.31".

    The error is empty if it is not known.
    """
    if error is None:
        return number(value), ""
    if not error or not math.isfinite(error):
        return number(value), number(error)
    decimals = max(0, 1 - math.floor(math.log10(error)))  # two digits of the error
    return f"{value:.{decimals}f}", f"{error:.{decimals}f}"


def with_error(value: float, error: float | None) -> str:
    """`rounded` in one: "20.14 ± 0.31"."""
    return " ± ".join(filter(None, rounded(value, error)))
