"""Training and sampling speed of DiCo nano and S at 32x32, beside the layout it was published in.

`make bench` prints the table; every row is measured in the same run, on the machine at hand.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from gensynth.autoencoders.pixels import PixelAutoencoder
from gensynth.config import Data, Flow, Optimizer
from gensynth.data.batches import load_batches
from gensynth.data.sources import open_source
from gensynth.data.training import Schedule
from gensynth.models import create_model
from gensynth.objectives.flow import FlowObjective
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.samplers.registry import create_scheduler
from gensynth.seeding import StepRandom
from gensynth.training.learning.optim import create_optimizer
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.machine import peak_gib, print_machine, synchronize

PATCH = 2  # 32x32 grey pixels as 16x16x4
SAMPLE_STEPS = 10


@dataclass
class Row:
    model: str
    what: str
    layout: str
    batch: int
    images_per_second: float
    data_wait: float | None
    peak_gib: float


def main(seconds: float = 10.0) -> list[Row]:
    """Measures every row for `seconds` each and prints the table."""
    device = current_device()
    tasks: list[tuple] = []
    for name, batch in (("DiCo-nano", 64), ("DiCo-S", 16)):
        for layout in (torch.contiguous_format, torch.channels_last):
            tasks.append((training, name, batch, layout, device, seconds))
        tasks.append((sampling, name, batch, device, seconds))
    # A process for each row, so that a row's peak memory is its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        rows = [pool.submit(*task).result() for task in tasks]
    print_table(rows, device)
    return rows


def training(
    name: str, batch_size: int, layout: torch.memory_format, device: str, seconds: float
) -> Row:
    """Whole training steps on Fashion-MNIST: data, loss, gradient, optimiser."""
    model = create_model(name, num_classes=10, in_channels=PATCH**2, learn_sigma=False)
    model = model.to(device, memory_format=layout)
    optimizer = create_optimizer(model, Optimizer())
    objective = FlowObjective(Flow(name="flow"), {"class_labels": torch.tensor([10])})
    autoencoder = PixelAutoencoder(1, PATCH).to(device)
    data = Data(channels=1, fit="pad")
    schedule = Schedule(0, 10**6, batch_size)
    batches = load_batches(open_source(data), data, 0, schedule, (0, (0, 0)), torch.device(device))
    waited, step = 0.0, 0

    def one_step() -> None:
        nonlocal waited, step
        start = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - start
        random = StepRandom(0, step, slice(0, batch_size), batch_size, device)
        latents = autoencoder.encode(batch.images.to(device)).contiguous(memory_format=layout)
        objective.loss(
            model, latents, {"class_labels": batch.labels.to(device)}, random
        ).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1

    one_step()
    one_step()
    waited = 0.0
    count, elapsed = repeat(one_step, seconds, device)
    batches.close()
    layout_name = "channels-last" if layout == torch.channels_last else "contiguous (as published)"
    return Row(
        name,
        "training",
        layout_name,
        batch_size,
        count * batch_size / elapsed,
        waited / elapsed,
        peak_gib(device),
    )


def sampling(name: str, batch_size: int, device: str, seconds: float) -> Row:
    """Whole pictures: noise, ten guided Euler steps, decoding."""
    model = create_model(name, num_classes=10, in_channels=PATCH**2, learn_sigma=False)
    pipeline = ClassConditionalPipeline(
        model.to(device, memory_format=torch.channels_last).eval(),
        create_scheduler(None, "velocity"),
        PixelAutoencoder(1, PATCH),
    ).to(device)
    labels, seeds = [k % 10 for k in range(batch_size)], list(range(batch_size))

    def one_batch() -> None:
        pipeline(labels, seeds, steps=SAMPLE_STEPS, guidance=2.0)

    one_batch()
    count, elapsed = repeat(one_batch, seconds, device)
    rate = count * batch_size / elapsed
    what = f"sampling, {SAMPLE_STEPS} guided steps"
    return Row(name, what, "channels-last", batch_size, rate, None, peak_gib(device))


def repeat(work: Callable[[], None], seconds: float, device: str) -> tuple[int, float]:
    """How often `work` ran in at least `seconds`, and the exact time."""
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < seconds:
        work()
        count += 1
        synchronize(device)
    return count, time.perf_counter() - start


def print_table(rows: list[Row], device: str) -> None:
    table = Table(title=f"DiCo at 32x32, float32, {device}")
    for column in ("model", "what", "layout", "batch", "images/s", "waiting for data", "peak GiB"):
        table.add_column(
            column, justify="left" if column in ("model", "what", "layout") else "right"
        )
    for row in rows:
        wait = "" if row.data_wait is None else f"{row.data_wait:.1%}"
        table.add_row(
            row.model,
            row.what,
            row.layout,
            str(row.batch),
            f"{row.images_per_second:.1f}",
            wait,
            f"{row.peak_gib:.2f}",
        )
    Console(width=110).print(table)  # as wide as it is, also in a narrow terminal or a file
    print_machine()


if __name__ == "__main__":
    main()
