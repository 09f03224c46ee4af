"""Linear attention in pretrained models on a CPU, beside full attention: `bench linearize`.

Blocks and self-attentions of FLUX and SDXL in their real shapes with random weights, batch 1,
float32, at four numbers of image tokens. Full and linear attention take turns, each in a process of
its own, whose peak memory is then its own too. Full attention that would take longer than the
minutes left is not measured; the same command with more --minutes measures it.
"""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from gensynth.files import write_text
from gensynth_benchmarks.gpu_steps.common import verdict
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.linear_stacks import BLOCKS, FLUX_ATTENTION, FLUX_BLOCKS, STACKS
from gensynth_benchmarks.machine import peak_gib
from gensynth_benchmarks.measuring import (
    Table,
    ceilings,
    device_name,
    exponent,
    measured_circumstances,
    number,
)

FILE = "linearize"
SIDES = (32, 64, 128, 256)  # of the image in tokens
TINY_SIDES = (4, 8)
FULL, LINEAR = "full", "linear"
FEWEST = 3  # rounds after the first, which warms up
LONG = 120.0  # seconds, after which no further round is begun
TARGET_SIDE, LEAST_GAIN = 128, 5.0
FROM_SIDE = 64  # on from where linear attention is to be never slower
MOST_EXPONENT = 1.15
TITLE = "Linear beside full attention, batch 1, float32"
_prepared: list[Callable[[], object]] = []  # of a process: what it times


def main(out: Path | None, seconds: float, minutes: float, tiny: bool = False) -> Sequence[Row]:
    """Measures what is missing in `out`, prints the tables and writes them there."""
    out = out or Path("benchmarks") / "results" / device_name("cpu")
    about = measured_circumstances("cpu", ceilings("cpu", torch.float32)) | {"miniature": tiny}
    ledger = Ledger(out, FILE, about, minutes)
    measure_all(ledger, seconds, tiny)
    shown, said = tables(ledger.rows), verdicts(ledger.rows)
    for table in shown:
        table.print()
    print("\n".join(said))
    if ledger.left:
        print(f"not measured, run again with more --minutes: {'; '.join(ledger.left)}")
    parts = [heading(about), *(table.markdown() for table in shown)]
    write_text(out / f"{FILE}.md", "\n".join([*parts, "".join(f"- {line}\n" for line in said)]))
    print(f"written to {out}")
    return ledger.rows


def heading(about: Row) -> str:
    return (
        f"{about['device']}, {about['date']}, torch {about['torch']}, diffusers "
        f"{about['diffusers']}, commit {about['commit']}; a matrix product has "
        f"{about['matmul_flops_per_second'] / 1e9:.0f} GFLOP/s: `{about['command']}`\n"
    )


def measure_all(ledger: Ledger, seconds: float, tiny: bool = False) -> None:
    """Adds the rows that the ledger lacks, small ones first."""
    sides = TINY_SIDES if tiny else SIDES
    for side in sides:
        for name, stack in STACKS.items():
            for methods in ((FULL, LINEAR), (LINEAR,)):
                row = ledger.measure(
                    partial(measure, name, side, methods, seconds, tiny),
                    needs=0 if side == sides[0] else expected(ledger, name, side, methods),
                    kernels=True,
                    stack=name,
                    side=side,
                    tokens=side**2 + stack.text[tiny],
                    methods=" and ".join(methods),
                )
                if row is not None and "failed" not in row:
                    break


def expected(ledger: Ledger, name: str, side: int, methods: Sequence[str]) -> float:
    """Seconds that a row takes, by that of half its side: of full attention sixteen times that.

    Infinite where that one was not measured.
    """
    rounds = 2  # the longest have one
    growth = {FULL: 16, LINEAR: 4}
    before: Row = {}
    for row in ledger.rows:
        if (row["stack"], row["side"]) == (name, side // 2):
            before |= row
    return rounds * sum(growth[m] * before.get(f"{m}_seconds", math.inf) for m in methods)


def measure(name: str, side: int, methods: Sequence[str], seconds: float, tiny: bool) -> Row:
    """Median seconds and peak memory of each method, which take turns."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as pools:
        works: dict[str, Callable[[], tuple[float, float]]] = {}
        for method in methods:
            pool = ProcessPoolExecutor(
                1, context, initializer=prepare, initargs=(name, side, method == LINEAR, tiny)
            )
            pools.enter_context(pool)
            works[method] = lambda pool=pool: pool.submit(run_once).result()
        found = alternate(works, seconds)
    row: Row = {"rounds": min(len(times) for times, _ in found.values())}
    for method, (times, peak) in found.items():
        row |= {f"{method}_seconds": statistics.median(times), f"{method}_gib": peak}
    return row


def prepare(name: str, side: int, linear: bool, tiny: bool) -> None:
    """In a process of its own: makes what it is to time."""
    with torch.inference_mode():
        _prepared.append(STACKS[name].make(side, linear, tiny))


@torch.inference_mode()
def run_once() -> tuple[float, float]:
    """Seconds of one call, and the peak memory of the process so far in GiB."""
    start = time.perf_counter()
    _prepared[-1]()
    return time.perf_counter() - start, peak_gib("cpu")


def alternate(
    works: Mapping[str, Callable[[], tuple[float, float]]], seconds: float
) -> dict[str, tuple[list[float], float]]:
    """Times of each in rounds of all, and its last peak.

    Until each has `seconds` and a few rounds, or all together have taken long. The first round
    warms up, and counts only where there is no other.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    peaks = dict.fromkeys(works, 0.0)
    enough = False
    while not enough:
        for name, work in works.items():
            spent, peaks[name] = work()
            times[name].append(spent)
        sums = [sum(spent) for spent in times.values()]
        rounds = min(len(spent) for spent in times.values())
        enough = sum(sums) >= LONG or (rounds > FEWEST and min(sums) >= seconds)
    return {name: (spent[1:] or spent, peaks[name]) for name, spent in times.items()}


def measured(rows: Sequence[Row], name: str) -> dict[int, Row]:
    """The rows of a stack by side, those with full attention before those without."""
    found: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: (row["side"], row["methods"] != LINEAR)):
        if row["stack"] == name and "failed" not in row:
            found[row["side"]] = row
    return found


def gain(row: Row | None) -> float | None:
    """How many times as fast linear attention is; None where that was not measured."""
    if row is None or f"{FULL}_seconds" not in row:
        return None
    return row[f"{FULL}_seconds"] / row[f"{LINEAR}_seconds"]


def tables(rows: Sequence[Row]) -> list[Table]:
    """Times and memory at each size, and how the times grow."""
    columns = ["stack", "method", "tokens", "full s", "linear s", "times as fast"]
    columns += ["full GiB", "linear GiB", "rounds"]
    cells = [cell for name in STACKS for cell in size_cells(rows, name)]
    title = f"{TITLE}; the peak is that of the process, libraries and weights included"
    growths = []
    for name, stack in STACKS.items():
        for method in (FULL, LINEAR):
            known = {
                row["tokens"]: row[f"{method}_seconds"]
                for row in measured(rows, name).values()
                if f"{method}_seconds" in row
            }
            said = number(exponent(list(known), list(known.values()))) if len(known) > 1 else ""
            called = stack.method if method == LINEAR else method
            growths.append([name, called, " to ".join(f"{n:,}" for n in ends(list(known))), said])
    names = ["stack", "attention", "tokens", "exponent"]
    return [
        Table(title, columns, cells, names=2),
        Table("Time over tokens: 1 is linear, 2 quadratic", names, growths, names=2),
    ]


def ends(values: Sequence[int]) -> list[int]:
    return sorted({min(values), max(values)}) if values else []


def size_cells(rows: Sequence[Row], name: str) -> list[list[str]]:
    """The rows of one stack; what was not measured says so, or what it failed with."""
    stack, cells = STACKS[name], []
    failed = {
        row["side"]: row["failed"] for row in rows if row["stack"] == name and "failed" in row
    }
    good = measured(rows, name)
    for side in sorted(good.keys() | failed.keys()):
        row, why = good.get(side, {}), failed.get(side, "not measured")
        text = stack.text[0]
        cells.append(
            [
                name,
                stack.method,
                f"{side}x{side}" + (f" + {text}" if text else ""),
                number(row.get(f"{FULL}_seconds"), 3) or why,
                number(row.get(f"{LINEAR}_seconds"), 3) or why,
                number(gain(row)),
                number(row.get(f"{FULL}_gib"), 1),
                number(row.get(f"{LINEAR}_gib"), 1),
                number(row.get("rounds"), 0),
            ]
        )
    return cells


def verdicts(rows: Sequence[Row]) -> list[str]:
    """The targets, of each stack; and what attention could gain FLUX's blocks at most."""
    said = []
    for name, stack in STACKS.items():
        found = measured(rows, name)
        at = f"{TARGET_SIDE}x{TARGET_SIDE}"
        what = f"{name}, {stack.method} over full attention at {at} tokens"
        said.append(verdict(what, gain(found.get(TARGET_SIDE)), LEAST_GAIN))
        gains = [
            value
            for side, row in found.items()
            if side >= FROM_SIDE and (value := gain(row)) is not None
        ]
        what = f"{name}, {stack.method} over full attention, the least from {FROM_SIDE}x{FROM_SIDE}"
        said.append(verdict(f"{what} on", min(gains, default=None), 1.0))
        said.append(growth_verdict(name, list(found.values())))
    return [*said, *most_of_blocks(rows)]


def growth_verdict(name: str, rows: Sequence[Row]) -> str:
    """Whether the exponent of a stack's linear attention is small enough."""
    what = f"{name}, exponent of {STACKS[name].method}"
    if len(rows) < len(SIDES):
        return f"{what}: not measured at all sizes; target at most {MOST_EXPONENT}"
    value = exponent([row["tokens"] for row in rows], [row[f"{LINEAR}_seconds"] for row in rows])
    met = "met" if value <= MOST_EXPONENT else "MISSED"
    return f"{what}: {value:.2f}, target at most {MOST_EXPONENT}, {met}"


def most_of_blocks(rows: Sequence[Row]) -> list[str]:
    """How many times as fast FLUX's blocks would be if their attention took no time."""
    alone, blocks = (
        measured(rows, name).get(TARGET_SIDE, {}).get(f"{FULL}_seconds")
        for name in (FLUX_ATTENTION, FLUX_BLOCKS)
    )
    if alone is None or blocks is None:
        return []
    portion = sum(BLOCKS.values()) * alone / blocks
    most = f": at most {1 / (1 - portion):.1f} times as fast" if portion < 1 else ""
    return [
        f"{FLUX_BLOCKS}: full attention is {portion:.0%} of the time at {TARGET_SIDE}x"
        f"{TARGET_SIDE} tokens{most} without it"
    ]
