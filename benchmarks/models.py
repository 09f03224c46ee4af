"""How the time of a forward pass grows with the image, for every backbone at one parameter count.

`gensynth bench models` prints two tables: milliseconds per forward pass at latents of 32x32, 64x64
and 128x128 with the fitted exponent (1 is linear in the number of pixels), and the peak memory of
each token mixer on 65,536 tokens. Every row is measured in its own process, in the same run.
"""

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from gensynth.models import create_model
from gensynth.models.layers.grid import Grid
from gensynth.models.layers.mixers import MIXERS, create_mixer
from gensynth.models.layers.positions import places, rotary_2d
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.machine import peak_gib, print_machine, synchronize
from gensynth_benchmarks.measuring import exponent

SIDES = (32, 64, 128)
TOKENS_SIDE, HEADS, HEAD_DIM = 256, 4, 32  # 65,536 tokens
# Depths that make up for the parameters that a mixer has of its own.
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "DiCo": ("DiCo-nano", {}),
    "DiC": ("DiC-nano", {}),
    "DiT, softmax": ("DiT-nano/2", {}),
    "MDTv2, softmax": ("MDTv2-nano/2", {}),
    "DiT, linear": ("DiT-nano/2", {"mixer": "linear", "depth": 7}),
    "DiT, local": ("DiT-nano/2", {"mixer": "local", "window": 8}),
    "DiT, rala": ("DiT-nano/2", {"mixer": "rala", "depth": 8}),
    "DiT, inline": ("DiT-nano/2", {"mixer": "inline", "depth": 8}),
    "DiT, nala": ("DiT-nano/2", {"mixer": "nala"}),
}


@dataclass
class Scaling:
    name: str
    parameters: int
    milliseconds: list[float]  # at each of SIDES

    @property
    def exponent(self) -> float:
        """Of the time over the pixels."""
        return exponent([side**2 for side in SIDES], self.milliseconds)


@dataclass
class Memory:
    mixer: str
    seconds: float
    peak_gib: float  # of the whole process on a CPU, of the device on a GPU


def main(seconds: float = 10.0) -> tuple[list[Scaling], list[Memory]]:
    """Measures every backbone for `seconds` at each size, and each mixer once; prints tables."""
    device = current_device()
    # A process for each row, so that a row's peak memory is its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        scaling = [pool.submit(forward_times, name, device, seconds).result() for name in MODELS]
        memory = [pool.submit(mixer_memory, mixer, device).result() for mixer in MIXERS]
    print_tables(scaling, memory, device)
    return scaling, memory


@torch.inference_mode()
def forward_times(name: str, device: str, seconds: float) -> Scaling:
    """Median time of a forward pass of one image, at each size."""
    model = create(name).eval().to(device, memory_format=torch.channels_last)
    times = []
    for side in SIDES:
        sample = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
        sample = sample.to(device, memory_format=torch.channels_last)
        timestep, labels = (
            torch.zeros(1, device=device, dtype=t) for t in (torch.float, torch.long)
        )
        model(sample, timestep, labels)
        durations: list[float] = []
        while len(durations) < 3 or sum(durations) < seconds:
            synchronize(device)
            start = time.perf_counter()
            model(sample, timestep, labels)
            synchronize(device)
            durations.append(time.perf_counter() - start)
        times.append(1000 * statistics.median(durations))
    return Scaling(name, parameters(name), times)


def create(name: str) -> torch.nn.Module:
    preset, keywords = MODELS[name]
    return create_model(preset, num_classes=10, **keywords)


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create(name).parameters())


@torch.inference_mode()
def mixer_memory(mixer: str, device: str) -> Memory:
    """Time and peak memory of one mixer on 65,536 tokens."""
    module = create_mixer(mixer, HEADS * HEAD_DIM, HEADS).to(device).eval()
    rows = places(TOKENS_SIDE, None, torch.device(device))
    grid = Grid(TOKENS_SIDE, TOKENS_SIDE)
    if mixer == "rala":
        grid = grid._replace(rotary=rotary_2d(HEAD_DIM, rows, rows, inclusive=True))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, TOKENS_SIDE**2, HEADS * HEAD_DIM, generator=generator).to(device)
    synchronize(device)
    start = time.perf_counter()
    module(tokens, grid)
    synchronize(device)
    return Memory(mixer, time.perf_counter() - start, peak_gib(device))


def print_tables(scaling: list[Scaling], memory: list[Memory], device: str) -> None:
    console = Console(width=110)  # as wide as it is, also in a narrow terminal or a file
    table = Table(title=f"Forward pass of one image, float32, {device}: milliseconds")
    for column in ("model", "parameters", *(f"{s}x{s} latents" for s in SIDES), "exponent"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in scaling:
        times = [f"{value:.1f}" for value in row.milliseconds]
        table.add_row(row.name, f"{row.parameters / 1e6:.2f} M", *times, f"{row.exponent:.2f}")
    console.print(table)
    title = f"Token mixers on {TOKENS_SIDE**2:,} tokens, {HEADS} heads x {HEAD_DIM}, {device}"
    table = Table(title=title)
    for column in ("mixer", "seconds", "peak GiB"):
        table.add_column(column, justify="left" if column == "mixer" else "right")
    for entry in memory:
        table.add_row(entry.mixer, f"{entry.seconds:.2f}", f"{entry.peak_gib:.2f}")
    console.print(table)
    print_machine()
