"""Times of a function, the ceilings of a device, and where results are written."""

import hashlib
import importlib.util
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from gensynth import __version__
from gensynth.files import write_text
from gensynth.ops.launches import OPS, cache_file
from gensynth_benchmarks.machine import synchronize

ROOT = Path(__file__).parent.parent
SCRIPTS = {
    name: f"python benchmarks/{name}" for name in ("gpu.py", "text.py", "distill.py", "refining.py")
}  # how to run what is not the program itself
WIDEST = 1000  # characters of a table


@dataclass(frozen=True)
class Ceilings:
    """What the device does best, measured: copying (bytes read and written) and multiplying."""

    bytes_per_second: float
    flops_per_second: float

    def milliseconds(self, moved: float, flops: float) -> float:
        """The least time for work that moves and multiplies this much."""
        return 1000 * max(moved / self.bytes_per_second, flops / self.flops_per_second)


def milliseconds(work: Callable[[], object], device: str, seconds: float = 1.0) -> float:
    """Median time of `work` in at least three runs after a warm-up.

    On a GPU by events, with the second-level cache cleared between runs. Clearing it takes longer
    than launching a few kernels, so that these are waiting for the GPU and not it for them.
    """
    if device == "cuda":
        from triton.testing import do_bench

        return do_bench(work, warmup=50, rep=int(200 * seconds), return_mode="median")
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def ceilings(device: str, dtype: torch.dtype) -> Ceilings:
    """Copies 1 GiB and multiplies 8192 x 8192 on a GPU; sixteen times less on a CPU."""
    small = device == "cpu"
    source = torch.zeros(2**24 if small else 2**28, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    side = 2048 if small else 8192
    a = torch.randn(side, side, device=device, generator=torch.Generator(device)).to(dtype)
    copy = milliseconds(lambda: target.copy_(source), device)
    multiply = milliseconds(lambda: a @ a, device)
    synchronize(device)
    return Ceilings(2000 * source.nbytes / copy, 2000 * side**3 / multiply)


def crossing(sizes: Sequence[int], ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """From which size on ours takes less time, between measured ones by their logarithms.

    None if it is not ahead at the largest; the smallest if it is ahead everywhere.
    """
    gains = [math.log(b / a) for a, b in zip(ours, theirs, strict=True)]
    if not gains or gains[-1] <= 0:
        return None
    behind = max((index for index, gain in enumerate(gains) if gain <= 0), default=None)
    if behind is None:
        return float(sizes[0])
    portion = -gains[behind] / (gains[behind + 1] - gains[behind])
    low, high = math.log(sizes[behind]), math.log(sizes[behind + 1])
    return math.exp(low + portion * (high - low))


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Slope of log time over log size, by least squares: 1 is linear, 2 is quadratic."""
    x, y = ([math.log(value) for value in values] for values in (sizes, times))
    return statistics.linear_regression(x, y).slope


def device_name(device: str) -> str:
    """A folder name: "nvidia-h200", "cpu-2-cores"."""
    if device == "cuda":
        return torch.cuda.get_device_name().lower().replace(" ", "-")
    return f"cpu-{torch.get_num_threads()}-threads"


def commit() -> str | None:
    """Of the code, with a mark if it was changed since; none where there is no git to ask."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = [git, "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or None


def clock_mhz(device: str) -> int | None:
    """The clock of the GPU's processors now; none without a GPU or NVIDIA's package for it."""
    if device != "cuda" or importlib.util.find_spec("pynvml") is None:
        return None
    return torch.cuda.clock_rate()


def circumstances(device: str) -> dict[str, Any]:
    """When, where and with what a result was measured."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    program = SCRIPTS.get(Path(sys.argv[0]).name, "gensynth")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": device_name(device),
        "gensynth": __version__,
        "commit": commit(),
        "command": " ".join([program, *map(without_place, sys.argv[1:])]),
        **{name: installed(name) for name in ("torch", "triton", "diffusers")},
    }


def without_place(argument: str) -> str:
    """An argument of a command; of a place on this machine only what it is called."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def measured_circumstances(device: str, best: Ceilings) -> dict[str, Any]:
    """`circumstances` with what kernels there are and what the device does best."""
    return circumstances(device) | {
        "kernels": kernels_digest(device),
        "clock_mhz": clock_mhz(device),
        "copy_bytes_per_second": best.bytes_per_second,
        "matmul_flops_per_second": best.flops_per_second,
    }


def kernels_digest(device: str) -> str:
    """Of all code of the operators, and of the launches that were tuned for this GPU."""
    digest = hashlib.sha256()
    for path in sorted(OPS.rglob("*.py")):
        digest.update(path.read_bytes())
    if device == "cuda" and cache_file().is_file():
        digest.update(cache_file().read_bytes())
    return digest.hexdigest()[:16]


def write_results(folder: Path, name: str, content: dict[str, Any], markdown: str) -> None:
    """`name`.json with everything, and `name`.md with the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
    write_text(folder / f"{name}.md", markdown)


def markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


@dataclass
class Table:
    """A table for the screen and for Markdown; the first `names` columns are text."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    names: int = 1

    def markdown(self) -> str:
        return f"### {self.title}\n\n{markdown_table(self.columns, self.rows)}"

    def print(self) -> None:
        table = RichTable(title=self.title, box=box.SIMPLE_HEAD, title_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index < self.names else "right")
        for row in self.rows:
            table.add_row(*row)
        # As wide as it is, also in a narrow terminal or a file.
        Console(width=WIDEST, markup=False).print(table)


def number(value: float | None, digits: int = 2) -> str:
    """A cell: empty where nothing was measured."""
    return "" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """A cell in per cent: empty where nothing was measured."""
    return "" if value is None else f"{value:.0%}"
