"""Numbers and lists of them as programs hold them: in Python, numpy or torch."""

from collections.abc import Iterable, Mapping, Set
from operator import index
from typing import Any

from gensynth.errors import UsageError


def whole_number(value: Any) -> int | None:
    """A whole number of Python, numpy or torch as an int; None for anything else.

    True is no number here, and neither is 1.0.
    """
    kind = getattr(value, "dtype", type(value))  # of numpy and torch: also what is in an array
    if kind is bool or str(kind) in ("bool", "torch.bool"):
        return None
    try:
        return index(value)
    except TypeError:  # a fraction, a text, or more than one number
        return None


def listed(values: Any, what: str) -> list[Any]:
    """The values of a list, tuple, range, array or tensor in their order; one value by itself: it.

    Args:
        what: they are called in a message.

    Raises:
        UsageError: an array of more than one dimension, or a collection without an order.
    """
    if isinstance(values, str) or whole_number(values) is not None:
        return [values]
    if isinstance(values, Mapping | Set | bytes) or not isinstance(values, Iterable):
        raise UsageError(
            f"{what} are given as a list, a range, or an array or tensor of one dimension, "
            f"got {type(values).__name__}."
        )
    shape = getattr(values, "shape", None)  # of numpy and torch
    if shape is not None and len(shape) != 1:
        raise UsageError(f"{what} are given in one dimension, got shape {list(shape)}.")
    return values.tolist() if shape is not None and hasattr(values, "tolist") else list(values)
