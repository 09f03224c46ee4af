"""DiC's group norms, and the widths at which they exist."""

from collections.abc import Sequence
from itertools import count, islice

from torch import nn

from gensynth.models.layers.checks import check_whole


def num_groups(channels: int) -> int:
    """Groups of a norm: at most 32, of at least 4 channels each; 0 for fewer than 4 channels."""
    return min(32, channels // 4)


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(num_groups(channels), channels)


# Widths of the norms of a level and its mirror, in units of C. The first decoder block of a level
# takes a skip beside its input, so it sees twice the level's width.
NORMED = ((1, 2), (2, 4), (4,))


def runs(hidden_size: int, depth: Sequence[int]) -> bool:
    """Whether the published model of that width runs: halving and norms must come out even."""
    channels = [
        times * hidden_size
        for level, multiples in enumerate(NORMED)
        if depth[level]  # a level without blocks has no norm
        for times in multiples
    ]
    divides = all(num_groups(c) > 0 and c % num_groups(c) == 0 for c in channels)
    return hidden_size % 2 == 0 and divides  # unshuffling makes four channels of each of C/2


def check_width(hidden_size: object, depth: Sequence[int]) -> None:
    """Raises ValueError for a width that the published model cannot have; names the nearest."""
    check_whole(hidden_size=hidden_size)
    assert isinstance(hidden_size, int)
    if runs(hidden_size, depth):
        return
    below = (width for width in range(hidden_size - 1, 0, -1) if runs(width, depth))
    above = (width for width in count(hidden_size + 1) if runs(width, depth))
    nearest = " or ".join(map(str, [*islice(below, 1), *islice(above, 1)]))
    raise ValueError(
        f"hidden_size {hidden_size} is not possible: it must be even, and each of its norms (of 1, "
        f"2 and 4 times as many channels C) must divide into min(32, C // 4) groups. "
        f"Nearest: {nearest}."
    )
