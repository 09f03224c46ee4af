"""Evaluation: what its distance sees, what its memory grows with, and how fast it is.

`gensynth bench evaluation` has four parts. ladder: real images degraded step by step, offline
(3 CPU minutes; needs --data, CIFAR-10). memory: the peak of an evaluation of 1,000 images (1 CPU
minute) and of 50,000 (many, most of them for nearest neighbours). frechet: seconds of the distance
of 2048-d statistics, beside the way torchmetrics goes (1 CPU minute). speed: images a second of the
feature extractors, beside torch-fidelity's where that is installed (--seconds for each).
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gensynth.errors import InputError, UsageError
from gensynth.evaluation.checking.cross_check import their_network
from gensynth.evaluation.measuring.features import Effort
from gensynth.evaluation.measuring.measure import measure
from gensynth.metrics import Statistics, frechet_distance
from gensynth.metrics.extractors import Extractor, open_extractor
from gensynth.metrics.extractors.extractor import exact_float32
from gensynth_benchmarks.foundation import repeat
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.machine import peak_gib, print_machine
from gensynth_benchmarks.measuring import (
    circumstances,
    device_name,
    markdown_table,
    milliseconds,
    write_results,
)

PARTS = ("ladder", "memory", "frechet", "speed")
COUNTS = (1_000, 50_000)
REFERENCE = 10_000  # images of the reference, as in ADM's batches
DIM, ROWS = 2048, 6144
SPEED_SIZES = {"inception-2015": (256, 8), "lite0-64": (64, 64)}  # pixels, batch
DIMS = {"pool": 2048, "spatial": 2023, "logits": 1008}


@dataclass
class Memory:
    """Peak memory of a process that evaluates, before and after it did."""

    images: int
    before_gib: float
    peak_gib: float
    seconds: float

    @property
    def beyond_gib(self) -> float:
        """What the evaluation added to the process with its extractor."""
        return self.peak_gib - self.before_gib


@dataclass
class Distance:
    """One way to compute a Fréchet distance."""

    way: str
    seconds: float
    value: float


@dataclass
class Speed:
    """A feature extractor."""

    extractor: str
    pixels: int
    batch: int
    images_per_second: float


def main(
    seconds: float = 10.0,
    out: Path | None = None,
    parts: Sequence[str] = PARTS,
    data: Path | None = None,
) -> None:
    """Measures the parts that are asked for and writes each to `out`.

    Raises:
        UsageError: an unknown part, or the ladder without data.
    """
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"no part {part!r}; known: {', '.join(PARTS)}.")
    if "ladder" in parts and data is None:
        raise UsageError(
            "the ladder needs images: --data DIR with train.parquet and test.parquet of CIFAR-10; "
            "or choose other parts."
        )
    device = current_device()
    out = out or Path("benchmarks") / "results" / device_name(device)
    if "ladder" in parts and data is not None:
        from gensynth_benchmarks.evaluation_ladder import main as climb

        climb(data, out)
    tables: dict[str, Callable[[], list[Any]]] = {
        "memory": memory,
        "frechet": distances,
        "speed": lambda: list(speeds(seconds, device)),
    }
    for part in (name for name in tables if name in parts):
        rows = tables[part]()
        table = show(TITLES[part], [CELLS[part](row) for row in rows])
        content = {**circumstances(device), "rows": [asdict(row) for row in rows]}
        write_results(out, f"evaluation_{part}", content, table)
    print_machine()
    print(f"written to {out}")


def memory(counts: Sequence[int] = COUNTS) -> list[Memory]:
    """Peaks of evaluations, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return [pool.submit(memory_of, count).result() for count in counts]


def memory_of(count: int, reference: int = REFERENCE) -> Memory:
    """Evaluates `count` images of noise with features as wide as Inception's, in its own cache.

    The extractor is a random projection: the memory asked about is that beside it.
    """
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GENSYNTH_CACHE"] = cache
        extractor = Projection()
        before, start = peak_gib("cpu"), time.perf_counter()
        measure(Noise(count, 1), Noise(min(count, reference), 2), extractor, effort=Effort(256))
        return Memory(count, before, peak_gib("cpu"), time.perf_counter() - start)


class Noise:
    """uint8 images [3, 16, 16], made when they are asked for."""

    lossy = False
    labels: Callable[[int], int] | None = None
    classes: list[str] | None = None
    texts: list[str] | None = None

    def __init__(self, length: int, seed: int):
        self.length, self.seed = length, seed
        self.name = self.fingerprint = f"noise {seed}, {length} images"

    def read(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        return torch.randint(256, (3, 16, 16), dtype=torch.uint8, generator=generator)

    def batches(
        self, indices: Sequence[int], batch_size: int, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(indices), batch_size):
            chosen = list(indices[first : first + batch_size])
            yield torch.tensor(chosen), torch.stack([self.read(index) for index in chosen])


class Projection(Extractor):
    """Features of Inception's widths by one random matrix: the cheapest extractor there is."""

    def __init__(self) -> None:
        super().__init__("projection", "none", DIMS, "none", official=False)
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(3 * 16 * 16, sum(DIMS.values()), generator=generator)
        self.matrix: Tensor
        self.register_buffer("matrix", matrix / 28)

    def preprocess(self, images: Tensor) -> Tensor:
        return images.float() / 128 - 1

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        whole = (pixels.flatten(1) @ self.matrix).relu()
        return dict(zip(DIMS, whole.split(list(DIMS.values()), dim=1), strict=True))


def distances(dim: int = DIM, rows: int = ROWS) -> list[Distance]:
    """The same distance by our two ways and by torchmetrics'."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -2, dim)
    one, other = (
        Statistics.of(torch.randn(rows, dim, generator=generator) * scales + shift)
        for shift in (0.0, 0.05)
    )
    root = Statistics(one.mean, one.covariance).with_root().root
    moments = (one.mean, one.covariance, other.mean, other.covariance)
    ways: dict[str, Callable[[], float]] = {
        "gensynth": lambda: frechet_distance(*moments),
        "gensynth, root of the reference kept": lambda: frechet_distance(*moments, root1=root),
        "torch.linalg.eigvals (torchmetrics 1.9)": lambda: by_eigenvalues(*moments),
    }
    return [Distance(name, milliseconds(way, "cpu") / 1000, way()) for name, way in ways.items()]


def by_eigenvalues(mu1: Tensor, sigma1: Tensor, mu2: Tensor, sigma2: Tensor) -> float:
    """The distance by the complex eigenvalues of the product (torchmetrics 1.9, image/fid.py)."""
    trace = torch.linalg.eigvals(sigma1 @ sigma2).sqrt().real.sum()
    squared = (mu1 - mu2).square().sum()
    return float(squared + sigma1.trace() + sigma2.trace() - 2 * trace)


def speeds(seconds: float, device: str) -> Iterator[Speed]:
    """Images a second, with random weights where they change nothing."""
    for name, (pixels, batch) in SPEED_SIZES.items():
        random = name.replace("inception-2015", "random-inception-0")
        extractor = open_extractor(random, device=device)
        images = Noise(1, 0).read(0).repeat(batch, 1, pixels // 16, pixels // 16).to(device)
        yield Speed(name, pixels, batch, rate(extractor, images, seconds, device))
        if name == "inception-2015":
            try:
                peer = their_random_network(extractor).to(device)
            except InputError as error:
                print(f"torch-fidelity is not measured: {error}")
            else:
                yield Speed("torch-fidelity", pixels, batch, rate(peer, images, seconds, device))


@torch.inference_mode()
def rate(network: Callable[[Tensor], Any], images: Tensor, seconds: float, device: str) -> float:
    """Images a second, after a warm-up."""
    with exact_float32():
        network(images)
        count, elapsed = repeat(lambda: network(images), seconds, device)
    return count * len(images) / elapsed


def their_random_network(extractor: Extractor) -> torch.nn.Module:
    """torch-fidelity's network with the weights of ours."""
    state = {
        name.removeprefix("network."): tensor.cpu()
        for name, tensor in extractor.state_dict().items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pth")
        torch.save({"fc.bias": torch.zeros(1008), **state}, path)
        return their_network(path)


TITLES = {
    "memory": "Peak memory of an evaluation with features of Inception's widths",
    "frechet": f"Fréchet distance of statistics of {DIM} features from {ROWS} images, float64",
    "speed": "Feature extractors, float32",
}
CELLS: dict[str, Callable[[Any], dict[str, str]]] = {
    "memory": lambda row: {
        "images": f"{row.images:,}",
        "before, GiB": f"{row.before_gib:.2f}",
        "peak, GiB": f"{row.peak_gib:.2f}",
        "beyond the extractor, GiB": f"{row.beyond_gib:.2f}",
        "seconds": f"{row.seconds:.0f}",
    },
    "frechet": lambda row: {
        "way": row.way,
        "seconds": f"{row.seconds:.2f}",
        "value": f"{row.value:.10f}",
    },
    "speed": lambda row: {
        "extractor": row.extractor,
        "pixels": str(row.pixels),
        "batch": str(row.batch),
        "images/s": f"{row.images_per_second:.1f}",
    },
}


def show(title: str, rows: list[dict[str, str]]) -> str:
    """Prints rows as a table; returns them as Markdown."""
    columns = list(rows[0])
    table = Table(title=title)
    for column in columns:
        words = column in ("way", "extractor")
        table.add_column(column, justify="left" if words else "right")
    for row in rows:
        table.add_row(*row.values())
    Console(width=110).print(table)
    return f"{title}\n\n" + markdown_table(columns, [list(row.values()) for row in rows])
