"""Errors a user can do something about, each with the exit code a script can act on.

A message is one or two sentences: what is wrong, and what to do.
"""

import difflib
from collections.abc import Iterable


class GensynthError(Exception):
    """A failure with a message for the user; `exit_code` is what the command returns."""

    exit_code = 1


class UsageError(GensynthError, ValueError):
    """A flag, value or configuration that cannot work. Nothing was written."""

    exit_code = 2


class InputError(GensynthError):
    """A model, dataset or image that is missing or unreadable."""

    exit_code = 3


class RefusedError(GensynthError):
    """Refused to protect the user: a pickle, or a folder that holds somebody else's results."""

    exit_code = 4


class DeviceMemoryError(GensynthError):
    """Out of memory."""

    exit_code = 5


class OutputError(GensynthError):
    """Cannot write: disk full, no permission, port in use."""

    exit_code = 6


class DivergedError(GensynthError):
    """The loss or the weights are not finite."""

    exit_code = 7


class CorruptError(GensynthError):
    """Checkpoints or data are damaged and no valid copy is left."""

    exit_code = 8


class PartialError(GensynthError):
    """Some items failed; the manifest lists them."""

    exit_code = 9


class ProcessLost(GensynthError):
    """Another process of the launch died or hangs; the same command resumes (EX_TEMPFAIL)."""

    exit_code = 75


class Stopped(GensynthError):
    """Stopped on request with the state saved; the same command resumes (EX_TEMPFAIL)."""

    exit_code = 75


def first_line(error: BaseException) -> str:
    """What an error says in its first line, without a full stop; its kind if it says nothing."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def did_you_mean(
    word: str, known: Iterable[str], cutoff: float = 0.6, any_case: bool = False
) -> str:
    """A question that names the known word nearest to `word`, to end a message; "" if none is.

    Args:
        cutoff, any_case: see `nearest`.
    """
    close = nearest(word, known, cutoff, any_case)
    return f" Did you mean {close!r}?" if close is not None else ""


def nearest(
    word: str, known: Iterable[str], cutoff: float = 0.6, any_case: bool = False
) -> str | None:
    """The known word nearest to `word`; None if none is near.

    Args:
        cutoff: how much of both has to be the same, from 0 to 1.
        any_case: whether upper and lower case are the same.
    """
    spelt: dict[str, str] = {}
    for one in known:
        spelt.setdefault(one.lower() if any_case else one, one)
    word = word.lower() if any_case else word
    close = difflib.get_close_matches(word, spelt, n=1, cutoff=cutoff)
    return spelt[close[0]] if close else None
