"""Parts of a model chosen by patterns of their names: `patch_embed`, `blocks.0-5`, `*.mlp*`."""

import itertools
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from gensynth.errors import UsageError, nearest

RANGE = re.compile(r"(\d{1,6})-(\d{1,6})")
SIMILAR = 0.5  # of a name, how near it has to be to be suggested
MOST_NAMED = 12  # parts that an error lists


def chosen(patterns: Sequence[str], names: Iterable[str], setting: str) -> list[str]:
    """The names that one of the patterns means, in their order.

    A pattern means whatever is called so, and all that is below it: `blocks.3` all weights of
    that block. `*`, `?` and `[...]` are those of file names and cross dots; `0-5` between dots is
    any of these numbers.

    Args:
        names: of weights or layers, as torch gives them.
        setting: where the patterns stand, for the message.

    Raises:
        UsageError: a pattern that means nothing here; the message says what is near.
    """
    names = list(names)
    found: set[str] = set()
    for pattern in patterns:
        meant = set(_meant(pattern, names))
        if not meant:
            raise UsageError(_unknown(pattern, names, setting))
        found |= meant
    return [name for name in names if name in found]


def _meant(pattern: str, names: Sequence[str]) -> Iterable[str]:
    spelt = _without_ranges(pattern, names)
    return (n for n in names if any(fnmatchcase(part, one) for part in _above(n) for one in spelt))


def _above(name: str) -> list[str]:
    """A name and what it is a part of: a.b.c, a.b, a."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _without_ranges(pattern: str, names: Sequence[str]) -> list[str]:
    """The pattern for every number of its ranges that occurs in the names."""
    numbers = {part for name in names for part in name.split(".") if part.isdecimal()}
    choices: list[list[str]] = []
    for part in pattern.split("."):
        ends = RANGE.fullmatch(part)
        if ends is None:
            choices.append([part])
        else:
            low, high = int(ends[1]), int(ends[2])
            choices.append(sorted(n for n in numbers if low <= int(n) <= high))
    return [".".join(parts) for parts in itertools.product(*choices)]


def _unknown(pattern: str, names: Sequence[str], setting: str) -> str:
    parts = list(dict.fromkeys(part for name in names for part in reversed(_above(name))))
    near = nearest(pattern, parts, SIMILAR)
    hint = f" Did you mean {near!r}?" if near else ""
    outer = list(dict.fromkeys(name.partition(".")[0] for name in names))
    more = ", ..." if len(outer) > MOST_NAMED else ""
    return (
        f"{setting}: nothing in this model is called {pattern!r}.{hint} Its parts: "
        f"{', '.join(outer[:MOST_NAMED])}{more}; gensynth takes patterns such as '*.mlp*' or "
        "'blocks.0-5' too."
    )
