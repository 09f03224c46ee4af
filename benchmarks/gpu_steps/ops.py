"""The operators: their tests on the GPU, then each beside its peers and its floor.

Table A, most telling first: what decides whether a kernel is needed at all stands before the rest.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from gensynth_benchmarks import kernels
from gensynth_benchmarks.gpu_steps.common import Bench, fresh_memory
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import ROOT, Table

MINIATURE_TESTS = "tests/ops/test_on_gpu.py"
LEAST_SECONDS = 120.0  # for the tests of a GPU, most of it compilation
COUNTED = ("passed", "failed", "skipped", "error", "errors")


def run(bench: Bench) -> None:
    """Runs the tests, then measures the rows that the ledger lacks."""
    bench.ledger.measure(
        partial(tests_row, bench),
        needs=0 if bench.miniature else LEAST_SECONDS,
        kernels=True,
        what="GPU tests",
    )
    kernels.measure_all(bench.ledger, bench.device, bench.best, quick=bench.miniature)


def tests_row(bench: Bench) -> Row:
    """How many tests passed, and the names of those that failed.

    Raises:
        RuntimeError: pytest ended without saying.
    """
    fresh_memory(bench.device)  # the tests need the GPU's for themselves
    where = [MINIATURE_TESTS] if bench.miniature else with_gpu_tests()
    command = [sys.executable, "-m", "pytest", "-m", "gpu", *where, "-rfE", "--tb=line", "-p"]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "no:cacheprovider"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=max(bench.ledger.seconds_left, LEAST_SECONDS),
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError("the tests took longer than was left; give them --minutes") from error
    return counted(done.stdout)


def with_gpu_tests() -> list[str]:
    """The files of tests that need a GPU; others may need packages that are not installed there."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in paths if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]


def counted(output: str) -> Row:
    """What the last line of pytest counts, and the tests that it lists as failed.

    Raises:
        RuntimeError: there is no such line.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    found = dict[str, int]()
    for count, word in re.findall(r"(\d+) (\w+)", lines[-1] if lines else ""):
        if word in COUNTED:
            found[word] = int(count)
    if not found:
        raise RuntimeError(f"pytest said nothing of tests: {lines[-1] if lines else output!r}")
    failed = [line.split(" ", 1)[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    errors = found.pop("errors", 0) + found.pop("error", 0)
    failing = found.pop("failed", 0)
    failed_row = {"failed": f"{failing} failing, {errors} errors"} if failing or errors else {}
    return {"passed": 0, "skipped": 0, **found, "failing": failing, "errors": errors} | {
        "names": failed,
        **failed_row,
    }


def tables(rows: Sequence[Row], about: Row) -> list[Table]:
    """The operators."""
    return [kernels.table(rows, about)]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """The tests, and every gate of the operators."""
    said = []
    tests = next((row for row in rows if row.get("what") == "GPU tests"), None)
    if tests is None:
        said.append("GPU tests: not run")
    elif "passed" not in tests:
        said.append(f"GPU tests: {tests['failed']}")
    else:
        words = ("passed", "failing", "errors", "skipped")
        counts = ", ".join(f"{tests[word]} {word}" for word in words)
        said.append(": ".join(["GPU tests", counts, *tests["names"]]))
    for row in kernels.as_rows(rows):
        if row.gate:
            said.append(f"{row.operator} {row.shape} {row.direction}: {row.gate}")
    return said
