"""Table E: what can be said of the operators without a GPU.

`gensynth bench ops --device cpu` prints exact counts (parameters and multiply-adds of the models,
keys that local attention touches under each tiling, registers and instructions of the compiled
kernels) and one measurement: from how many tokens on linear and local attention are faster than
softmax attention on this CPU. Kernels are not timed: Triton's interpreter says nothing of a GPU.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gensynth.models import create_model
from gensynth.models.catalogue import entry
from gensynth.ops import linear_attention, local_attention, use
from gensynth.ops.local_attention.tiles import TouchedKeys, touched_keys
from gensynth_benchmarks.compile_report import report_elsewhere
from gensynth_benchmarks.compile_tables import summary
from gensynth_benchmarks.measuring import (
    circumstances,
    crossing,
    exponent,
    markdown_table,
    milliseconds,
    write_results,
)

MODELS = ("DiT-XL/2", "DiCo-S", "DiCo-B", "DiCo-L", "DiCo-XL", "DiC-XL")
TOKENS = (1024, 4096, 16384, 65536)
HEADS, DIM, WINDOW = 1, 64, 8
WINDOWS, GRIDS = (8, 16, 32), (128, 256, 512)


@dataclass(frozen=True)
class Counted:
    """A model's size at 256 pixels."""

    model: str
    parameters: int
    modulation: float  # share of the parameters in the layers that make shifts, scales and gates
    gmacs: float
    published: float | None


@dataclass(frozen=True)
class Growth:
    """Milliseconds of one attention at each number of tokens."""

    attention: str
    milliseconds: list[float]
    tokens: Sequence[int] = TOKENS

    @property
    def exponent(self) -> float:
        """Of the time over the tokens."""
        return exponent(self.tokens, self.milliseconds)

    def crossover(self, other: "Growth") -> float | None:
        """From how many tokens on this is faster than the other, by interpolation of logarithms.

        None if it never is; the fewest measured if it always is.
        """
        return crossing(self.tokens, self.milliseconds, other.milliseconds)


def main(out: Path, seconds: float, compile_kernels: bool = True) -> dict[str, list]:
    """Counts, measures, prints and writes the tables; each time takes at least `seconds`."""
    about = circumstances("cpu")
    content, shown = dict(about), []
    for name, (title, columns, rows), numbers in tables(seconds, compile_kernels):
        print_table(title, columns, rows)
        content |= {title: [dict(zip(columns, row, strict=True)) for row in rows]}
        content |= {name: [asdict(number) for number in numbers]}
        shown.append(f"## {title}\n\n{markdown_table(columns, rows)}")
        write_results(out, "operators", content, "\n".join(shown))
    return content


Titled = tuple[str, list[str], list[list[str]]]


def tables(seconds: float, compile_kernels: bool) -> Iterator[tuple[str, Titled, Sequence[Any]]]:
    """Each table as soon as it is ready, the quickest first, with a name and what it is made of."""
    models = [count(name) for name in MODELS]
    yield "models", models_table(models), models
    keys = [touched_keys(side, window) for window in WINDOWS for side in GRIDS]
    yield "keys", keys_table(keys), keys
    growths = [growth(name, seconds) for name in ATTENTIONS]
    yield "growth", growth_table(growths), growths
    if compile_kernels:
        kernels = report_elsewhere()
        yield "kernels", summary(kernels), kernels


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=130).print(table)


def count(name: str) -> Counted:
    found = entry(name)
    with torch.device("meta"):
        modules = create_model(name).named_modules()
        linear = [m for n, m in modules if n.endswith("modulation") and isinstance(m, nn.Linear)]
    modulation = sum(p.numel() for layer in linear for p in layer.parameters())
    share = modulation / found.parameters
    return Counted(name, found.parameters, share, found.gflops_256, found.published_gflops_256)


def models_table(models: list[Counted]) -> tuple[str, list[str], list[list[str]]]:
    columns = ["model", "parameters", "of them modulation", "GMAC at 256 px", "published"]
    rows = [
        [
            m.model,
            f"{m.parameters / 1e6:.0f} M",
            f"{m.modulation:.0%}",
            f"{m.gmacs:.2f}",
            "" if m.published is None else f"{m.published:.2f}",
        ]
        for m in models
    ]
    return "Models, counted", columns, rows


def keys_table(found: list[TouchedKeys]) -> tuple[str, list[str], list[list[str]]]:
    """Keys that a query's tile looks at, for each that the query sees."""
    columns = [
        "grid",
        "window",
        "seen",
        "ours",
        "tile-ordered",
        "row-major",
        "useful share of ours",
    ]
    rows = [
        [
            f"{f.side}x{f.side}",
            str(f.window),
            f"{f.seen:.0f}",
            f"{f.floating:.0f}",
            f"{f.aligned:.0f}",
            f"{f.raster:.0f}",
            f"{f.seen / f.floating:.0%}",
        ]
        for f in found
    ]
    return "Keys a query touches in local attention, counted", columns, rows


def softmax(q: Tensor, side: int) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q, q, q)


def linear(q: Tensor, side: int) -> Tensor:
    return linear_attention(q, q, q)


def local(q: Tensor, side: int) -> Tensor:
    return local_attention(q, q, q, height=side, width=side, window=WINDOW)


ATTENTIONS = {"softmax": softmax, "linear": linear, f"local, window {WINDOW}": local}


@torch.inference_mode()
def growth(name: str, seconds: float, tokens: Sequence[int] = TOKENS) -> Growth:
    """Times of one attention, float32, batch 1, one head of 64."""
    times = []
    for number in tokens:
        side = math.isqrt(number)
        q = torch.randn(1, HEADS, number, DIM, generator=torch.Generator().manual_seed(0))
        with use("reference"):
            times.append(milliseconds(lambda q=q, s=side: ATTENTIONS[name](q, s), "cpu", seconds))
    return Growth(name, times, tokens)


def growth_table(growths: list[Growth]) -> tuple[str, list[str], list[list[str]]]:
    columns = ["attention", *(f"{n:,} tokens" for n in TOKENS), "exponent", "ahead of softmax from"]
    rows = []
    for g in growths:
        faster = None if g is growths[0] else g.crossover(growths[0])
        times = [f"{value:.2f} ms" for value in g.milliseconds]
        ahead = "" if faster is None else f"{faster:,.0f} tokens"
        rows.append([g.attention, *times, f"{g.exponent:.2f}", ahead])
    title = f"Attention on this CPU, float32, one head of {DIM}, {torch.get_num_threads()} threads"
    return title, columns, rows
