"""Runs a reader on many inputs in a child process with limits, and says how each of them ended."""

import json
import os
import resource
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TextIO

import pytest

SECONDS = 10  # for one input
BYTES = 2 << 30  # above what the process holds before
MANY, FEW = 400, 12  # inputs of a reader: of a long test, and of a quick one
# Makes an input in a folder, and gives what reads it.
Make = Callable[[Path, Random], Callable[[], Any]]

how_many = pytest.mark.parametrize(
    "count", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=["few", "many"]
)


class Hang(BaseException):
    """Not an Exception, so that nothing takes it for a damaged file."""


def check(make: Make, folder: Path, count: int, codes: set[int], seed: int = 0) -> dict[int, int]:
    """How many of `count` inputs ended with each code: 0 (read) or that of a GensynthError.

    Raises:
        AssertionError: an input that hangs, takes too much memory, ends in another exception or
            with a code that is not among `codes`; the message names its number and the end.
    """
    ended = run(make, folder, count, seed)
    wrong = [one for one in ended if one["code"] not in codes]
    shown = "\n".join(f"input {one['index']}: {one['code']} {one['words']}" for one in wrong[:12])
    assert not wrong, f"{len(wrong)} of {count} with seed {seed}:\n{shown}"
    assert [one["index"] for one in ended] == list(range(count))
    found = [one["code"] for one in ended]
    return {code: found.count(code) for code in sorted(set(found))}


def run(make: Make, folder: Path, count: int, seed: int) -> list[dict[str, Any]]:
    ended: list[dict[str, Any]] = []
    while len(ended) < count:  # a child that is killed by its input is followed by another
        ended += one_child(make, folder, range(len(ended), count), seed)
    return ended


def one_child(make: Make, folder: Path, indices: range, seed: int) -> list[dict[str, Any]]:
    """The ends of the inputs as far as the child came, the last one its own."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        code = 1
        try:
            with os.fdopen(sending, "w") as pipe:
                read_all(make, folder, indices, seed, partial(tell, pipe))
            code = 0
        finally:
            os._exit(code)
    os.close(sending)
    ended = []
    with os.fdopen(receiving, "rb", buffering=0) as pipe:
        text = b""
        while True:
            ready, _, _ = select.select([pipe], [], [], 6 * SECONDS)
            content = pipe.read(1 << 16) if ready else b""
            if not content:
                break
            text += content
            *lines, text = text.split(b"\n")
            ended += [json.loads(line) for line in lines]
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if len(ended) < len(indices):
        words = f"no answer, status {status}" if ready else f"nothing for {6 * SECONDS} s"
        ended.append({"index": indices[len(ended)], "code": "killed", "words": words})
    return ended


def tell(pipe: TextIO, end: dict[str, Any]) -> None:
    print(json.dumps(end), file=pipe, flush=True)


def read_all(
    make: Make, folder: Path, indices: range, seed: int, tell: Callable[[dict], None]
) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"

    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(Hang()))
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + BYTES, here + BYTES))
    for index in indices:
        inner = folder / f"input-{index}"
        inner.mkdir()
        read = make(inner, Random(f"{seed}-{index}"))
        begun = time.monotonic()
        signal.alarm(SECONDS)
        code, words = end_of(read)
        signal.alarm(0)
        tell({"index": index, "code": code, "words": words, "seconds": time.monotonic() - begun})
        shutil.rmtree(inner, ignore_errors=True)


def end_of(read: Callable[[], Any]) -> tuple[int | str, str]:
    """The code that a command would exit with, and the words; the kind of any other exception."""
    from gensynth.errors import GensynthError

    try:
        read()
    except GensynthError as error:
        return error.exit_code, str(error)[:300]
    except Hang:
        return "hangs", "".join(traceback.format_stack(limit=8))[-600:]
    except Exception as error:  # noqa: BLE001 - whatever else it is, is what is looked for
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "gensynth" in f.filename]
        return type(error).__name__, f"{str(error)[:200]} at {' '.join(ours[-4:])}"
    return 0, ""
