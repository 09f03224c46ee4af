"""Values of settings: what may be meant by one, and how it is typed."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

from gensynth.errors import UsageError
from gensynth.whole import listed, whole_number


def read_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Height and width in pixels, from a text like "32" or "32x48"."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise UsageError(f"{option} must look like 32 or 32x48 (height x width), got {text!r}.")
    return int(sides[0]), int(sides[-1])  # one number: a square


def plain_text(text: str) -> str:
    """A caption or prompt as every model is told it: composed (NFC), one blank between words.

    So the same words are the same text, however a person or a file writes them.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_timesteps(text: str) -> list[int]:
    """The whole numbers in a text like "999,500,0"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise UsageError(f"--timesteps must look like 999,500,0 (noise to data), got {text!r}.")
    return [int(part) for part in parts]


def read_interval(text: str) -> tuple[float, float]:
    """The two noise levels in a text like "0.2,0.7"."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--guidance-interval must look like 0.2,0.7 (low,high), got {text!r}."
        ) from error
    return low, high


def read_growth(text: str) -> float | tuple[int, int]:
    """ "4x" (times as long), "512" or "512x768" (height x width in pixels).

    Raises:
        UsageError: something else, or no growth.
    """
    number = text.removesuffix("x")
    if number == text or not number:
        return read_size(text, "--to")
    try:
        times = float(number)
    except ValueError:
        times = 0.0
    if not 1 < times <= 1000:
        raise UsageError(f"--to must look like 4x, 512 or 512x768, and enlarge, got {text!r}.")
    return times


def read_options(
    texts: Sequence[str], option: str = "--option", example: str = "key=value"
) -> dict[str, Any] | None:
    """The keywords in texts like "top_k=50", which were given as `option`."""
    from gensynth.config.yaml_text import parse_yaml  # not before an option is given

    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} must look like {example}, got {text!r}.")
        options[key.strip()] = parse_yaml(value, f"{option} {text}")
    return options or None


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python, numpy or torch, and no truth value."""
    return whole_number(value) is not None


def is_number(value: Any) -> bool:
    """Whether a value is a real number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_pair(value: Any, of: Callable[[Any], bool]) -> bool:
    """Whether a value is a list or tuple of two such things."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(of, value))


def is_guide(value: Any) -> bool:
    """Whether a value is the name of a model, or draws itself."""
    return isinstance(value, str) or callable(getattr(value, "resolve", None))


def is_falling(value: Any) -> bool:
    """Whether a value is whole numbers from 0, each below the one before, in any kind of list."""
    if isinstance(value, str):
        return False
    given = listed(value, "timesteps")
    numbers = [number for number in map(whole_number, given) if number is not None]
    if not numbers or len(numbers) < len(given):
        return False
    return numbers[-1] >= 0 and all(above > below for above, below in pairwise(numbers))


def is_respacing(value: Any) -> bool:
    """Whether a value is like "250", "10,20,30" or "ddim50"; numbers stand for their text."""
    counts = isinstance(value, list | tuple) and all(map(is_whole, value))
    if not (isinstance(value, str) or is_whole(value) or counts):
        return False
    shape = r"(ddim)?\d{1,6}|\d{1,6}(,\d{1,6})+"  # longer numbers are no steps, and slow to read
    return bool(re.fullmatch(shape, respacing_text(value), re.ASCII))


def respacing_text(value: Any) -> str:
    """The text of a number of steps, or of one for each section."""
    if isinstance(value, str):
        return value.replace(" ", "")
    return ",".join(str(int(count)) for count in ([value] if is_whole(value) else value))
