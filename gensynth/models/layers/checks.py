"""Refusals that the constructors of the backbones share."""

from collections.abc import Sequence


def check_whole(**values: object) -> None:
    """Refuses what is not a whole number from 1.

    Raises:
        ValueError: names the argument and its value.
    """
    for name, value in values.items():
        # bool is an int in Python: depth=True would be a model of one block
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {value!r}")


def check_ratio(**values: object) -> None:
    """Refuses what is not a number above 0.

    Raises:
        ValueError: names the argument and its value.
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{name} must be a number above 0, got {value!r}")


def check_classes(num_classes: object, null_label: bool) -> None:
    """Raises ValueError unless there are classes, or none but the null label."""
    if num_classes == 0 and null_label and not isinstance(num_classes, bool):
        return  # a model without a condition: the null label is all it knows
    check_whole(num_classes=num_classes)


def check_levels(depth: object) -> None:
    """Raises ValueError unless there are numbers of blocks of the five levels of an hourglass."""
    if (
        not isinstance(depth, Sequence)
        or len(depth) != 5
        or not all(isinstance(n, int) and n >= 0 for n in depth)
    ):
        raise ValueError(f"depth must be five numbers of blocks, got {depth!r}")
