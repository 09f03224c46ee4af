"""Masked tokens beside diffusion: images a second, and what a step spends beside the transformer.

`gensynth bench masked` prints two tables. The first compares whole pictures, decoded to pixels, of
MaskGIT and of a diffusion model. The second splits a step of the decoding loop into the transformer
(both halves of guidance) and bookkeeping (mixing them, drawing, ordering, writing the tokens), and
gives the same logits to the bookkeeping of the published samplers. Every row is measured in its
own process, in the same run, with random weights, on which the time does not depend. "published"
is bookkeeping too: what the published sampler takes for the same logits.
"""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gensynth.autoencoders.pixels import PixelAutoencoder
from gensynth.models import create_model
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.samplers.registry import create_scheduler
from gensynth.settings import Settings
from gensynth_benchmarks.foundation import repeat
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.machine import peak_gib, print_machine, synchronize
from gensynth_benchmarks.published_samplers import PUBLISHED, PublishedSampler

GUIDANCE = 1.5
BATCH = 16
STEPS = (8, 16, 32)
DIFFUSION_STEPS = 50
DECODERS = ("HaltonDecoder", "ConfidenceDecoder")
SPLIT_STEPS = 8  # the fewest of STEPS: a decoder that draws only what it takes draws most in each


@dataclass(frozen=True)
class Size:
    """A model of tokens with its tokenizer."""

    model: str
    model_keywords: dict[str, int]
    tokenizer: str
    channels: int
    pixels: int
    batch: int


NANO = Size(
    "MaskGIT-nano",
    {"input_size": 8, "codebook_size": 512, "num_classes": 10},
    tokenizer="VQ-nano",
    channels=1,
    pixels=32,
    batch=BATCH,
)
IMAGENET = Size("MaskGIT-B", {}, tokenizer="VQ-f16", channels=3, pixels=256, batch=1)
SPLIT_SIZES = (NANO, IMAGENET)


@dataclass
class Speed:
    model: str
    sampler: str
    steps: int
    batch: int
    images_per_second: float
    peak_gib: float


@dataclass
class Split:
    """Seconds of one step: a mean over whole decodings, with what is set up before the first."""

    model: str
    tokens: str
    batch: int
    decoder: str
    transformer: float
    bookkeeping: float
    published: float  # bookkeeping of the published sampler

    @property
    def share(self) -> float:
        """Of bookkeeping in the step."""
        return self.bookkeeping / (self.transformer + self.bookkeeping)

    @property
    def published_share(self) -> float:
        return self.published / (self.transformer + self.published)


def main(seconds: float = 10.0) -> tuple[list[Speed], list[Split]]:
    """Measures every row for `seconds` each and prints both tables."""
    device = current_device()
    tasks: list[tuple] = [(diffusion, DIFFUSION_STEPS, BATCH, device, seconds)]
    tasks += [(masked, name, steps, device, seconds) for name in DECODERS for steps in STEPS]
    # A process for each row, so that a row's peak memory is its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        speeds = [pool.submit(*task).result() for task in tasks]
        splits = [
            pool.submit(split_step, size, name, SPLIT_STEPS, device, seconds).result()
            for size in SPLIT_SIZES
            for name in DECODERS
        ]
    print_speeds(speeds, device)
    print_splits(splits, device)
    print_machine()
    return speeds, splits


def diffusion(steps: int, batch: int, device: str, seconds: float) -> Speed:
    """Whole pictures of DiCo-nano: noise, guided Euler steps, decoding."""
    model = create_model("DiCo-nano", num_classes=10, in_channels=4, learn_sigma=False)
    pipeline = ClassConditionalPipeline(
        model.to(device, memory_format=torch.channels_last).eval(),
        create_scheduler(None, "velocity"),
        PixelAutoencoder(1, 2),
    ).to(device)
    rate = images_per_second(pipeline, steps, batch, device, seconds)
    return Speed("DiCo-nano", "Euler", steps, batch, rate, peak_gib(device))


def masked(decoder: str, steps: int, device: str, seconds: float) -> Speed:
    """Whole pictures of MaskGIT-nano: guided steps, decoding of the tokens."""
    pipeline = token_pipeline(NANO, decoder, device)
    rate = images_per_second(pipeline, steps, NANO.batch, device, seconds)
    return Speed(NANO.model, decoder, steps, NANO.batch, rate, peak_gib(device))


def token_pipeline(size: Size, decoder: str, device: str) -> ClassConditionalPipeline:
    tokenizer = create_model(size.tokenizer, channels=size.channels)
    model = create_model(size.model, **size.model_keywords)
    scheduler = create_scheduler(decoder, "tokens")
    return ClassConditionalPipeline(
        model.eval(), scheduler, tokenizer.eval(), prediction="tokens", size=size.pixels
    ).to(device)


def images_per_second(
    pipeline: ClassConditionalPipeline, steps: int, batch: int, device: str, seconds: float
) -> float:
    labels, seeds = [k % 10 for k in range(batch)], list(range(batch))

    def one_batch() -> None:
        pipeline(labels, seeds, steps=steps, guidance=GUIDANCE)

    one_batch()
    count, elapsed = repeat(one_batch, seconds, device)
    return count * batch / elapsed


@torch.inference_mode()
def split_step(size: Size, decoder: str, steps: int, device: str, seconds: float) -> Split:
    """Times the model inside the pipeline's own loop, in whole decodings of `size`."""
    pipeline = token_pipeline(size, decoder, device)
    tokens = (size.pixels // pipeline.autoencoder.patch) ** 2
    decode(pipeline, size, 2, device)  # warm up
    clock = [0.0, 0.0, 0.0]  # whole loop, model, published bookkeeping
    rounds = 0
    while rounds == 0 or sum(clock) < seconds:
        # w of the paper is one less than our scale.
        published = PUBLISHED[decoder](size.batch, tokens, steps, GUIDANCE - 1, device)
        for index, spent in enumerate(decode(pipeline, size, steps, device, published)):
            clock[index] += spent
        rounds += 1
    whole, transformer, peer = (spent / (rounds * steps) for spent in clock)
    codes = pipeline.model.mask_token
    return Split(
        size.model,
        f"{tokens} of {codes:,}",
        size.batch,
        decoder,
        transformer,
        whole - transformer,
        peer,
    )


def decode(
    pipeline: ClassConditionalPipeline,
    size: Size,
    steps: int,
    device: str,
    published: PublishedSampler | None = None,
) -> tuple[float, float, float]:
    """Seconds of one decoding: the whole loop, of it the model, and `published` (not in it)."""
    pixels = (size.pixels, size.pixels)
    resolved = pipeline.resolve(Settings(steps=steps, guidance=GUIDANCE, size=pixels))
    whole = peer = 0.0
    with timed_calls(pipeline.model, device) as calls:
        begin = now(device)
        for _ in pipeline.walk([0] * size.batch, range(size.batch), resolved):
            end = now(device)
            whole += end - begin
            if published is not None:
                published.step(calls.output)
            begin = now(device)
            peer += begin - end
    return whole, calls.seconds, peer


@dataclass
class Calls:
    """Seconds spent in a model, and its last output."""

    seconds: float = 0.0
    output: Tensor | None = None


@contextmanager
def timed_calls(model: torch.nn.Module, device: str) -> Iterator[Calls]:
    """Times every call of `model` while inside."""
    calls = Calls()

    def before(*_: object) -> None:
        calls.seconds -= now(device)

    def after(module: torch.nn.Module, given: object, output: Tensor) -> None:
        calls.seconds += now(device)
        calls.output = output

    hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def now(device: str) -> float:
    """Seconds on a clock, when the device has done what it was given."""
    synchronize(device)
    return time.perf_counter()


def print_speeds(rows: list[Speed], device: str) -> None:
    """The first table; the first row is what the others are compared with."""
    table = Table(title=f"Whole pictures, 32x32 grey, guidance {GUIDANCE}, float32, {device}")
    words = ("model", "sampler")
    for column in (*words, "steps", "batch", "images/s", "beside diffusion", "peak GiB"):
        table.add_column(column, justify="left" if column in words else "right")
    for row in rows:
        table.add_row(
            row.model,
            row.sampler,
            str(row.steps),
            str(row.batch),
            f"{row.images_per_second:.2f}",
            f"{row.images_per_second / rows[0].images_per_second:.1f}x",
            f"{row.peak_gib:.2f}",
        )
    Console(width=110).print(table)  # as wide as it is, also in a narrow terminal or a file


def print_splits(rows: list[Split], device: str) -> None:
    table = Table(
        title=f"One of {SPLIT_STEPS} decoding steps, guidance {GUIDANCE}, float32, {device}: "
        "milliseconds"
    )
    words = ("model", "tokens", "decoder")
    columns = ("model", "tokens", "batch", "decoder", "transformer", "bookkeeping", "share")
    for column in (*columns, "published", "share"):
        table.add_column(column, justify="left" if column in words else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.model,
            row.tokens,
            str(row.batch),
            row.decoder.removesuffix("Decoder"),
            f"{1000 * row.transformer:.1f}",
            f"{1000 * row.bookkeeping:.1f}",
            f"{row.share:.1%}",
            f"{1000 * row.published:.1f}",
            f"{row.published_share:.1%}",
        )
    Console(width=110).print(table)
