"""Standard output that cannot show every character, is a closed pipe, or lies on a full disk."""

import codecs
import io
import os
import sys

from gensynth.errors import OutputError

CLOSED = 141  # as a shell says of a program that SIGPIPE ended
_HANDLER = "gensynth.shown"
_DASHES = "\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}\N{HYPHEN}"


def show_everything() -> None:
    """Lets stdout and stderr take any text, whatever their encoding.

    What they lack becomes "?", of dashes "-"; a file's name that is no text keeps its bytes.
    """
    codecs.register_error(_HANDLER, _shown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _shown(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):  # the handler is for writing only
        raise error
    return b"".join(map(_bytes, error.object[error.start : error.end])), error.end


def _bytes(character: str) -> bytes:
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is no text, as Python keeps it
        return bytes([ord(character) - 0xDC00])
    return b"-" if character in _DASHES else b"?"


def finish_output() -> None:
    """Writes what is left; Python itself would only do so after the exit code is decided.

    Raises:
        SystemExit: nobody reads any more, or the disk is full, which is then said.
    """
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        sys.exit(CLOSED)
    except OSError as error:
        _drop_output()
        print(f"error: cannot write to standard output: {error.strerror}.", file=sys.stderr)
        sys.exit(OutputError.exit_code)


def _drop_output() -> None:
    """Sends what stdout still holds nowhere, so that Python does not try once more."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
