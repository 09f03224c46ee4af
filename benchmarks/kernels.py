"""Table A: our operators on a GPU beside eager PyTorch, torch.compile, the best peer and the floor.

`gensynth bench ops` on a GPU measures row after row, the most telling first, until its minutes are
used up; the same command again with the same `--out` goes on where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from gensynth.files import write_text
from gensynth.ops import use
from gensynth_benchmarks.kernel_cases import Case
from gensynth_benchmarks.kernel_plan import cases
from gensynth_benchmarks.ledger import Ledger
from gensynth_benchmarks.measuring import (
    Ceilings,
    Table,
    ceilings,
    measured_circumstances,
    milliseconds,
    number,
)

# Above this many elements the error is not computed: the float64 copy would not fit.
LARGEST_EXACT = 2**30
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
    "another function",
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
    asides: dict[str, float] = field(default_factory=dict)  # compute something else
    error: float | None = None  # relative, against float64
    eager_error: float | None = None
    gate: str = ""

    @property
    def best_peer(self) -> tuple[str, float] | None:
        """Name and time of the fastest that is not ours; none if none was measured."""
        others = {"eager": self.eager, "compiled": self.compiled, **self.peers}
        measured = {name: value for name, value in others.items() if value is not None}
        if not measured:
            return None
        name = min(measured, key=lambda name: measured[name])
        return name, measured[name]


def main(device: str, out: Path, minutes: float, quick: bool = False) -> list[Row]:
    """Measures, prints and writes the table; `quick` takes tiny shapes.

    Raises:
        UsageError: the results in `out` are another device's.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    best = ceilings(device, dtype)
    about = measured_circumstances(device, best)
    ledger = Ledger(out, "kernels", about, minutes)
    measure_all(ledger, device, best, quick)
    shown = table(ledger.rows, about)
    shown.print()
    write_text(out / "kernels.md", shown.markdown())
    if ledger.left:
        print(f"not measured, run again: {'; '.join(ledger.left)}")
    return as_rows(ledger.rows)


def measure_all(ledger: Ledger, device: str, best: Ceilings, quick: bool) -> None:
    """Adds every case to the ledger that it lacks."""
    for case in cases(device, quick):
        ledger.measure(
            lambda case=case: asdict(measure(case, device, best, quick)),
            kernels=case.ours is not None,
            operator=case.operator,
            shape=case.shape,
            direction=case.direction,
        )


def as_rows(rows: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of a ledger that are of operators; what failed says so in the place of a gate."""
    known = {one.name for one in fields(Row)}
    return [
        Row(
            **{"floor": 0.0}
            | {key: value for key, value in row.items() if key in known}
            | ({"gate": f"FAILED: {row['failed']}"} if "failed" in row else {})
        )
        for row in rows
        if "operator" in row
    ]


def measure(case: Case, device: str, best: Ceilings, quick: bool = False) -> Row:
    """All times of one case, one after the other; `quick` compiles nothing."""
    backend = "eager" if quick else "inductor"
    seconds = 0.0 if quick else 1.0
    torch._dynamo.reset()
    row = Row(case.operator, case.shape, case.direction, best.milliseconds(case.moved, case.flops))
    inputs = case.inputs(device)
    if case.definition is not None and sum(x.numel() for x in inputs) < LARGEST_EXACT:
        row.error, row.eager_error = errors(case, inputs)
    if case.ours is not None:
        with use("triton"):
            row.ours = milliseconds(directed(case, case.ours, inputs), device, seconds)
    with use("reference"):
        row.eager = milliseconds(directed(case, case.eager, inputs), device, seconds)
        if case.published:
            compiled = torch.compile(case.eager, dynamic=False, backend=backend)
            row.compiled = milliseconds(directed(case, compiled, inputs), device, seconds)
    for name, make in case.peers.items():
        row.peers[name] = milliseconds(directed(case, make(device), inputs), device, seconds)
    for name, make in case.asides.items():
        row.asides[name] = milliseconds(directed(case, make(device), inputs), device, seconds)
    row.gate = gates(case, row)
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
            assert row.best_peer is not None
            value = row.best_peer[1] / row.ours
        else:
            others = {"eager": row.eager, "compiled": row.compiled, **row.peers}
            value = others[name] / row.ours
        said.append(f"{name} {value:.2f} {'>=' if value >= least else 'MISSES'} {least}")
    return "; ".join(said)


def cells(row: Row) -> Iterator[str]:
    name, peer = row.best_peer or ("", None)
    yield from (row.operator, row.shape, row.direction, number(row.ours, 3), number(row.eager, 3))
    yield from (number(row.compiled, 3), "" if peer is None else f"{peer:.3f} ({name})")
    yield number(peer / row.ours if row.ours and peer else None)
    yield "; ".join(f"{other} {time:.3f}" for other, time in row.asides.items())
    yield from (number(row.floor, 3), number(row.floor / row.ours if row.ours else None))
    for error in (row.error, row.eager_error):
        yield "" if error is None else f"{error:.1e}"
    yield row.gate


def table(rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> Table:
    """The rows of a ledger that are of operators."""
    copied, multiplied = about["copy_bytes_per_second"], about["matmul_flops_per_second"]
    title = (
        f"{about['device']}: copy {copied / 1e9:.0f} GB/s, product {multiplied / 1e12:.1f} TFLOP/s"
    )
    return Table(title, COLUMNS, [list(cells(row)) for row in as_rows(rows)], names=3)
