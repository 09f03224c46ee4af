"""Backbones from 256 to 2048 pixels on a CPU, and decoding of large pictures: `bench highres`.

One step is one forward pass of one picture without guidance, in float32, weights and latents
random; the autoencoder has 32 channels and an eighth of the size. All backbones have about as many
parameters. Every row is measured in a process of its own, whose peak memory is then its own too.
"""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from gensynth.autoencoders import open_autoencoder
from gensynth.autoencoders.tiling import decode_bands, default_tiles
from gensynth.files import write_text
from gensynth.models import create_model
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.machine import fresh_peak_gib, peak_gib
from gensynth_benchmarks.measuring import (
    Table,
    ceilings,
    crossing,
    device_name,
    exponent,
    measured_circumstances,
    number,
)

FILE = "highres"
STEP, DECODING = "step", "decoding"
PIXELS = (256, 512, 1024, 2048)
TINY_PIXELS = (64, 128)
DECODED = (1024, 2048, 4096, 8192)  # pixels of a side
TINY_DECODED = (64,)
DECODER = "taef2"
FLAT = 0.1  # how far peaks of decoding may lie apart
PATCH, CHANNELS = 8, 32  # of the autoencoder
# The published sizes S; the depth makes up for the parameters that a mixer has of its own.
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "DiCo-S": ("DiCo-S", {}),
    "DiC-S": ("DiC-S", {}),
    "DiT-S/2, softmax": ("DiT-S/2", {}),
    "DiT-S/2, linear": ("DiT-S/2", {"mixer": "linear", "depth": 10}),
    "DiT-S/2, local": ("DiT-S/2", {"mixer": "local", "window": 8}),
}
TINY: Mapping[str, Any] = {"hidden_size": 48}  # for a trial; the numbers say nothing
FEWEST = 3  # calls after the first, which warms up
GROWTH = 4.5  # of the time of decoding where sides double
LONG = 60.0  # seconds, after which no further call is begun


def main(out: Path | None, seconds: float, minutes: float, tiny: bool = False) -> Sequence[Row]:
    """Measures what is missing in `out`, prints the tables and writes them there."""
    out = out or Path("benchmarks") / "results" / device_name("cpu")
    about = measured_circumstances("cpu", ceilings("cpu", torch.float32)) | {"miniature": tiny}
    ledger = Ledger(out, FILE, about, minutes)
    measure_all(ledger, seconds, tiny)
    shown = tables(ledger.rows)
    for table in shown:
        table.print()
    said = verdicts(ledger.rows)
    print("\n".join(said))
    if ledger.left:
        print(f"not measured, run again with more --minutes: {'; '.join(ledger.left)}")
    parts = [heading(about), *(table.markdown() for table in shown)]
    write_text(out / f"{FILE}.md", "\n".join([*parts, "".join(f"- {line}\n" for line in said)]))
    print(f"written to {out}")
    return ledger.rows


def heading(about: Row) -> str:
    return (
        f"{about['device']}, {about['date']}, torch {about['torch']}, commit {about['commit']}; a "
        f"matrix product has {about['matmul_flops_per_second'] / 1e9:.0f} GFLOP/s: "
        f"`{about['command']}`\n"
    )


def measure_all(ledger: Ledger, seconds: float, tiny: bool = False) -> None:
    """Adds the rows that the ledger lacks, small ones first."""
    for pixels in TINY_PIXELS if tiny else PIXELS:
        for name in MODELS:
            work = partial(apart, step, name, pixels, seconds, tiny)
            ledger.measure(work, kernels=True, what=STEP, model=name, pixels=pixels)
    before = 0.0
    for pixels in TINY_DECODED if tiny else DECODED:
        work = partial(apart, decoding, pixels)
        row = ledger.measure(
            work, needs=GROWTH * before, what=DECODING, model=DECODER, pixels=pixels
        )
        before = math.inf if row is None else row.get("seconds", math.inf)


def apart(work: Callable[..., Row], *given: Any) -> Row:
    """What `work` measures, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *given).result()


@torch.inference_mode()
def step(name: str, pixels: int, seconds: float, tiny: bool) -> Row:
    """Median seconds of a forward pass, and how much memory it takes beside the model."""
    model = create(name, tiny).eval().to(memory_format=torch.channels_last)
    side = pixels // PATCH
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, CHANNELS, side, side, generator=generator)
    sample = sample.to(memory_format=torch.channels_last)
    moment, label = torch.full((1,), 0.5), torch.zeros(1, dtype=torch.long)
    before = fresh_peak_gib()
    times = durations(partial(model, sample, moment, label), seconds)
    return {
        "seconds": statistics.median(times),
        "calls": len(times),
        "gib": peak_gib("cpu") - before,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


@torch.inference_mode()
def decoding(pixels: int) -> Row:
    """Seconds of decoding random latents in tiles, and the peaks of memory while it lasts.

    The latents are drawn when a tile asks for them, and bands are dropped.
    """
    codec = open_autoencoder(DECODER, "kl")
    channels, height, width = codec.latent_shape(pixels, pixels)
    latents = RandomLatents(channels, height, width)
    before = fresh_peak_gib()
    start = time.perf_counter()
    for _ in decode_bands(codec, latents, default_tiles(codec)):
        pass
    peak = peak_gib("cpu")
    return {
        "seconds": time.perf_counter() - start,
        "gib": peak - before,
        "process_gib": peak,
        "tile": default_tiles(codec).side * codec.patch,
    }


class RandomLatents:
    """Normal numbers [1, C, h, w] in rows that are each drawn from a seed of their own."""

    def __init__(self, channels: int, height: int, width: int):
        self.shape: Sequence[int] = (1, channels, height, width)

    def __getitem__(self, key: tuple[slice, ...]) -> torch.Tensor:
        _, _, rows, columns = key
        _, channels, _, width = self.shape
        drawn = []
        for row in range(rows.start, rows.stop):
            generator = torch.Generator().manual_seed(row)
            drawn.append(torch.randn(channels, width, generator=generator)[:, columns].clone())
        return torch.stack(drawn, dim=1)[None]


def create(name: str, tiny: bool = False) -> torch.nn.Module:
    preset, keywords = MODELS[name]
    more = TINY if tiny else {}
    return create_model(preset, num_classes=10, in_channels=CHANNELS, **{**keywords, **more})


def durations(work: Callable[[], object], seconds: float) -> list[float]:
    """Of some calls after the first, for `seconds` at least; of the first alone if it is long."""
    times: list[float] = []
    while not times or (sum(times) < LONG and (len(times) <= FEWEST or sum(times[1:]) < seconds)):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times[1:] or times


def tables(rows: Sequence[Row]) -> list[Table]:
    """Time and memory of steps by size with their growth, and where one passes another."""
    steps = [row for row in rows if row["what"] == STEP]
    sizes = sorted({row["pixels"] for row in steps})
    columns = ["model", "parameters", *(f"{size} px" for size in sizes), "exponent"]
    shown = []
    for key, title in (("seconds", "Seconds of one step"), ("gib", "GiB of one step")):
        said = f"{title}, batch 1, float32, beside the model" if key == "gib" else title
        shown.append(Table(said, columns, [cells(steps, name, sizes, key) for name in MODELS]))
    names = ["ahead", "behind", "from pixels on"]
    shown.append(Table("Where one passes the other", names, list(crossings(steps)), names=2))
    columns = ["pixels", "tile", "seconds", "GiB above the model", "GiB of the process"]
    decoded = [decoding_cells(row) for row in rows if row["what"] == DECODING]
    return [*shown, Table(f"Decoding by {DECODER} in tiles", columns, decoded)]


def decoding_cells(row: Row) -> list[str]:
    """A line of the table of decoding."""
    return [
        str(row["pixels"]),
        str(row.get("tile", "")),
        row.get("failed") or number(row["seconds"], 1),
        number(row.get("gib")),
        number(row.get("process_gib")),
    ]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Whether the memory of decoding stays where it is while pictures grow."""
    peaks = [row["process_gib"] for row in rows if "process_gib" in row]
    if len(peaks) < 2:
        return ["peaks of decoding: not measured at two sizes"]
    apart = max(peaks) / min(peaks) - 1
    met = "met" if apart <= FLAT else "MISSED"
    return [f"peaks of decoding lie {apart:.0%} apart, target at most {FLAT:.0%}, {met}"]


def curve(rows: Sequence[Row], name: str, key: str) -> dict[int, Any]:
    """A figure of a model by pixels of a side, where it was measured."""
    return {row["pixels"]: row[key] for row in rows if row["model"] == name and key in row}


def cells(rows: Sequence[Row], name: str, sizes: Sequence[int], key: str) -> list[str]:
    """A line of a table: what was not measured is empty, what failed says so."""
    found, failed = curve(rows, name, key), curve(rows, name, "failed")
    parameters = next(iter(curve(rows, name, "parameters").values()), None)
    growth = ""
    if len(found) > 1 and min(found.values()) > 0:
        growth = number(exponent([size**2 for size in found], list(found.values())))
    return [
        name,
        "" if parameters is None else f"{parameters / 1e6:.1f} M",
        *(number(found.get(size), 3) or failed.get(size, "") for size in sizes),
        growth,
    ]


def crossings(rows: Sequence[Row]) -> Iterator[list[str]]:
    """For each two backbones the one that is ahead at the largest size, and from where on."""
    times = {name: curve(rows, name, "seconds") for name in MODELS}
    for pair in combinations(MODELS, 2):
        sizes = sorted(times[pair[0]].keys() & times[pair[1]].keys())
        for ours, theirs in (pair, pair[::-1]) if len(sizes) > 1 else ():
            at = crossing(
                sizes, [times[ours][size] for size in sizes], [times[theirs][s] for s in sizes]
            )
            if at is not None:
                everywhere = " (all measured)" if at == sizes[0] else ""
                yield [ours, theirs, f"{at:.0f}{everywhere}"]
