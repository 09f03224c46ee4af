"""Table A: our operators on a GPU beside eager PyTorch, torch.compile, the best peer and the floor.

`gensynth bench ops` on a GPU measures row after row, the most telling first, until its minutes are
used up; the same command again with the same `--out` goes on where it stopped.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from gensynth.errors import UsageError
from gensynth.ops import use
from gensynth.ops.launches import versions
from gensynth_benchmarks.kernel_cases import Case, cases
from gensynth_benchmarks.measuring import (
    Ceilings,
    ceilings,
    circumstances,
    markdown_table,
    milliseconds,
    write_results,
)

# Above this many elements the error is not computed: the float64 copy would not fit.
LARGEST_EXACT = 2**27
# Largest relative errors; in bfloat16 also 1.25 times that of the published code.
GATES = {torch.bfloat16: 6e-3, torch.float32: 1e-5}
COLUMNS = [
    "operator",
    "shape",
    "direction",
    "ours ms",
    "eager",
    "compiled",
    "best peer",
    "peer/ours",
]
COLUMNS += ["floor ms", "floor/ours", "error", "eager's error", "gate"]


@dataclass
class Row:
    operator: str
    shape: str
    direction: str
    floor: float
    ours: float | None = None  # milliseconds, as the others
    eager: float | None = None
    compiled: float | None = None
    peers: dict[str, float] = field(default_factory=dict)
    error: float | None = None  # relative, against float64
    eager_error: float | None = None
    gate: str = ""

    @property
    def best_peer(self) -> tuple[str, float]:
        """Name and time of the fastest that is not ours."""
        others = {"eager": self.eager, "compiled": self.compiled, **self.peers}
        measured = {name: value for name, value in others.items() if value is not None}
        name = min(measured, key=lambda name: measured[name])
        return name, measured[name]


def main(device: str, out: Path, minutes: float, quick: bool = False) -> list[Row]:
    """Measures, prints and writes the table; `quick` takes tiny shapes.

    Raises:
        UsageError: the results in `out` are another device's.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    best = ceilings(device, dtype)
    about = circumstances(device) | {
        "kernels": versions()["kernels"],
        "copy_bytes_per_second": best.bytes_per_second,
        "matmul_flops_per_second": best.flops_per_second,
    }
    rows = earlier(out, about)
    done = {(row.operator, row.shape, row.direction) for row in rows}
    deadline = time.monotonic() + 60 * minutes
    left = []
    for case in cases(device, quick):
        if (case.operator, case.shape, case.direction) in done:
            continue
        if time.monotonic() > deadline:
            left.append(f"{case.operator} {case.shape} {case.direction}")
            continue
        rows.append(measure(case, device, best))
        write_results(
            out, "kernels", {**about, "rows": [asdict(r) for r in rows]}, as_markdown(rows)
        )
    print_table(rows, about)
    if left:
        print(f"not measured, run again: {'; '.join(left)}")
    return rows


def earlier(out: Path, about: dict[str, Any]) -> list[Row]:
    """The rows that a run before left, if it was of the same kernels and libraries."""
    import json

    path = out / "kernels.json"
    if not path.is_file():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["device"] != about["device"]:
        raise UsageError(f"{path} is of {content['device']}, this is {about['device']}.")
    same = all(content.get(key) == about[key] for key in ("kernels", "torch", "triton"))
    return [Row(**row) for row in content["rows"]] if same else []


def measure(case: Case, device: str, best: Ceilings) -> Row:
    """All times of one case, in one process and one after the other."""
    row = Row(case.operator, case.shape, case.direction, best.milliseconds(case.moved, case.flops))
    inputs = case.inputs(device)
    if case.definition is not None and sum(x.numel() for x in inputs) < LARGEST_EXACT:
        row.error, row.eager_error = errors(case, inputs)
    if case.ours is not None:
        with use("triton"):
            row.ours = milliseconds(directed(case, case.ours, inputs), device)
    with use("reference"):
        row.eager = milliseconds(directed(case, case.eager, inputs), device)
        if case.published:
            compiled = torch.compile(case.eager, dynamic=False)
            row.compiled = milliseconds(directed(case, compiled, inputs), device)
    for name, make in case.peers.items():
        row.peers[name] = milliseconds(directed(case, make(device), inputs), device)
    row.gate = gates(case, row)
    torch._dynamo.reset()
    return row


def directed(
    case: Case, function: Callable[..., Any], inputs: tuple[torch.Tensor, ...]
) -> Callable[[], object]:
    """What is timed: a call without gradients, or a call and its gradients."""
    if case.direction == "forward":

        @torch.no_grad()
        def forward() -> object:
            return function(*inputs)

        return forward
    leaves = [x.detach().requires_grad_() for x in inputs]

    def both() -> object:
        outputs = function(*leaves)
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        return torch.autograd.grad(outputs, leaves, outputs)

    return both


@torch.no_grad()
def errors(case: Case, inputs: tuple[torch.Tensor, ...]) -> tuple[float, float]:
    """Relative errors of our kernel and of eager PyTorch, of the first output."""

    def first(output: Any) -> torch.Tensor:
        return (output if isinstance(output, torch.Tensor) else output[0]).double()

    with use("reference"):
        exact = first(case.definition(*(x.double() for x in inputs)))
        eager = first(case.eager(*inputs))
    with use("triton"):
        ours = first(case.ours(*inputs))
    scale = exact.norm()
    return float((ours - exact).norm() / scale), float((eager - exact).norm() / scale)


def gates(case: Case, row: Row) -> str:
    """The gates of a case, each with whether it is met."""
    said = []
    if row.error is not None and case.definition is not None:
        most = GATES[case.dtype]
        if case.published and case.dtype == torch.bfloat16:
            most = min(most, 1.25 * (row.eager_error or 0.0))
        said.append(f"error {row.error:.1e} {'<=' if row.error <= most else 'MISSES'} {most:.1e}")
    for name, least in case.gates.items():
        if name == "floor":
            value = row.floor / row.ours
        elif name == "best peer":
            value = row.best_peer[1] / row.ours
        else:
            others = {"eager": row.eager, "compiled": row.compiled, **row.peers}
            value = others[name] / row.ours
        said.append(f"{name} {value:.2f} {'>=' if value >= least else 'MISSES'} {least}")
    return "; ".join(said)


def cells(row: Row) -> Iterator[str]:
    def number(value: float | None, digits: int = 3) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    name, peer = row.best_peer
    yield from (row.operator, row.shape, row.direction, number(row.ours), number(row.eager))
    yield from (number(row.compiled), f"{peer:.3f} ({name})")
    yield number(peer / row.ours if row.ours else None, 2)
    yield from (number(row.floor), number(row.floor / row.ours if row.ours else None, 2))
    for error in (row.error, row.eager_error):
        yield "" if error is None else f"{error:.1e}"
    yield row.gate


def as_markdown(rows: list[Row]) -> str:
    return markdown_table(COLUMNS, [list(cells(row)) for row in rows])


def print_table(rows: list[Row], about: dict[str, Any]) -> None:
    copied, multiplied = about["copy_bytes_per_second"], about["matmul_flops_per_second"]
    title = (
        f"{about['device']}: copy {copied / 1e9:.0f} GB/s, product {multiplied / 1e12:.1f} TFLOP/s"
    )
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:3] else "right")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=190).print(table)
