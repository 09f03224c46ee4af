import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "gradio", "accelerate", "datasets", "transformers", "torchmetrics")
# Runs each list of arguments of a list; prints a list of [exit code, stdout, stderr]. Whatever
# imports a heavy package ends with 99.
GUARD = f"""
import contextlib, io, json, sys

class Imported(BaseException):
    pass

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY!r}:
            raise Imported(f"imported {{name}}")

sys.meta_path.insert(0, Guard())
ended = []
for arguments in json.loads(sys.argv[1]):
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            from gensynth.cli import main
            main(arguments)
        except SystemExit as end:
            code = end.code or 0
        except Imported as heavy:
            code = 99
            print(heavy, file=sys.stderr)
    ended.append([code, out.getvalue(), errors.getvalue()])
print(json.dumps(ended))
"""


Ended = list[subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def guarded() -> Callable[[Sequence[Sequence[str]]], Ended]:
    """Runs commands, all in one process, in which nothing heavy can be imported (exit code 99)."""

    def run(commands: Sequence[Sequence[str]]) -> Ended:
        done = subprocess.run(
            [sys.executable, "-c", GUARD, json.dumps([list(command) for command in commands])],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        ended = json.loads(done.stdout)
        return [subprocess.CompletedProcess(*one) for one in zip_up(commands, ended)]

    return run


def zip_up(commands: Sequence[Sequence[str]], ended: list[list]) -> list[list]:
    return [[command, *end] for command, end in zip(commands, ended, strict=True)]
