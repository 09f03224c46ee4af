"""What every step is given, and how it measures."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.machine import synchronize
from gensynth_benchmarks.measuring import Ceilings, Table

MOST_RUNS, FEWEST_RUNS, FEWEST_LONG_RUNS = 50, 4, 2
LONG = 5.0  # seconds of one run
WARM_UPS = 2
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch")


@dataclass
class Bench:
    """What a step is given.

    Attributes:
        best: what the device copies and multiplies best, measured by the same command.
        ledger: the rows of the step, which it adds to.
        out: folder of results, for pictures as well.
        work: folder for runs of training, which a later command goes on with.
        data: folder with `cifar10` and `tiny-imagenet-45`, Parquet files; none: the hub's.
        miniature: everything as small as it gets, for seconds on a CPU; the numbers say nothing.
    """

    device: str
    best: Ceilings
    ledger: Ledger
    out: Path
    work: Path
    data: Path | None = None
    miniature: bool = False


class Step(Protocol):
    """A module of this folder; the first line of its docstring says what it measures."""

    def run(self, bench: Bench) -> None:
        """Measures the rows that the ledger lacks, the most telling first."""

    def tables(self, rows: Sequence[Row], about: Row) -> list[Table]:
        """What the rows say."""

    def verdicts(self, rows: Sequence[Row]) -> list[str]:
        """Each target with what was measured, met or missed; "not measured" where it was not."""


def verdict(what: str, value: float | None, least: float, digits: int = 2) -> str:
    """One target as a line."""
    if value is None:
        return f"{what}: not measured; target {least:.{digits}f}"
    met = "met" if value >= least else "MISSED"
    return f"{what}: {value:.{digits}f}, target {least:.{digits}f}, {met}"


def timed(work: Callable[[], object], device: str, seconds: float, warm_ups: int = WARM_UPS) -> Row:
    """Median milliseconds of `work` over about so many seconds, and how far two halves differ.

    Warmed up by calls that compile, record a graph and replay it. On a GPU by events, so that what
    runs is counted and not its launching; a launch that the GPU waits for is counted too.
    """
    for _ in range(warm_ups):
        work()
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    once = time.perf_counter() - start
    fewest = FEWEST_LONG_RUNS if once > LONG else FEWEST_RUNS
    count = max(fewest, min(MOST_RUNS, round(seconds / max(once, 1e-4))))
    times = [one_run(work, device) for _ in range(count)]
    halves = [statistics.median(times[::2]), statistics.median(times[1::2])]
    median = statistics.median(times)
    return {"milliseconds": median, "spread": abs(halves[0] - halves[1]) / median}


def one_run(work: Callable[[], object], device: str) -> float:
    """Milliseconds of one call."""
    if device == "cuda":
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        work()
        after.record()
        after.synchronize()
        return before.elapsed_time(after)
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def launches(work: Callable[[], object], device: str) -> int | None:
    """How often a call launches a kernel or a graph, copies not counted; none without a GPU."""
    if device != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        work()
        synchronize(device)
    return sum(event.name.startswith(LAUNCHES) for event in profiled.events())


def fresh_memory(device: str) -> None:
    """Forgets what was compiled, what nothing needs any more, and the peak of memory."""
    torch._dynamo.reset()
    if device == "cuda":
        gc.collect()  # a compiled model refers to itself
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
