"""Forward passes and whole samplers of every backbone: eager, compiled, with our operators.

Table B. Weights and inputs are random, labels and times differ within a batch, latents are those of
an 8x autoencoder (16x tokens for MaskGIT). A forward pass is one of `batch` pictures; a sampler
draws `batch` pictures with classifier-free guidance, so that the model sees twice as many, and its
pictures a second are given without and with decoding. "gensynth" is what `pipeline.optimize()`
does. "float32 eager" is the setting in which ratios were published, with PyTorch's defaults: TF32
in convolutions and not in matrix products, which favours convolutional models; "TF32 eager" has it
in both.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from gensynth.models import create_model
from gensynth.ops import use
from gensynth.pipelines.acceleration.optimize import MOST_PICTURES
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.samplers.registry import create_scheduler
from gensynth.settings import Settings
from gensynth_benchmarks.gpu_steps.backbones import (
    BACKBONES,
    COMPILED,
    DIFFUSERS,
    EAGER,
    OURS,
    PATHS,
    PUBLISHED,
    TENSOR_FLOAT,
    build,
    compile_whole,
    floor,
    inputs,
    plain_call,
    running,
)
from gensynth_benchmarks.gpu_steps.common import Bench, fresh_memory, launches, timed
from gensynth_benchmarks.gpu_steps.decoding import DECODER, DECODING, decoder, decoding_row
from gensynth_benchmarks.gpu_steps.model_tables import FORWARD, SAMPLER, SIZES
from gensynth_benchmarks.gpu_steps.model_tables import tables as tables
from gensynth_benchmarks.gpu_steps.model_tables import verdicts as verdicts
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.machine import peak_gib

SECONDS = 2.0
GUIDANCE = 1.5
COMPILING = 90.0  # seconds that a row is expected to take before it is measured
MAIN = ("DiT-XL/2", "DiCo-XL", "DiC-XL")
MINIATURE = (64, 2)


def plan(miniature: bool) -> Iterator[tuple[str, str, int, int, str]]:
    """What, model, pixels, batch and path of every row, the most telling first."""
    if miniature:
        for name in BACKBONES:  # compiling takes longest
            paths = PATHS if name == "DiCo-XL" else (EAGER, OURS)
            yield from ((FORWARD, name, *MINIATURE, path) for path in paths)
        yield from ((FORWARD, DIFFUSERS, *MINIATURE, path) for path in (EAGER, COMPILED))
        yield from ((FORWARD, "DiCo-XL", *MINIATURE, p) for p in (PUBLISHED, TENSOR_FLOAT))
        for name in ("DiCo-XL", "SiT-XL/2", "MaskGIT-L"):
            yield from ((SAMPLER, name, *MINIATURE, path) for path in PATHS)
        yield DECODING, DECODER, *MINIATURE, EAGER
        return
    others = [name for name in BACKBONES if name not in MAIN]
    for size in SIZES:
        yield from ((FORWARD, name, *size, path) for name in MAIN for path in PATHS)
    for pixels in (256, 512):
        yield from ((FORWARD, n, pixels, 64, p) for p in (PUBLISHED, TENSOR_FLOAT) for n in MAIN)
    yield from ((SAMPLER, name, 256, 64, path) for name in MAIN for path in PATHS)
    yield from ((FORWARD, DIFFUSERS, 256, 64, path) for path in (EAGER, COMPILED))
    yield from ((FORWARD, name, 256, 64, path) for name in others for path in PATHS)
    for batch in (8, 1):
        yield from ((FORWARD, name, 256, batch, path) for name in MAIN for path in PATHS)
        yield from ((SAMPLER, name, 256, batch, path) for name in MAIN for path in PATHS)
    for batch in (8, 1):
        for pixels in (256, 512, 2048):
            done = MAIN if pixels == 256 or (pixels, batch) in SIZES else ()
            names = [name for name in BACKBONES if name not in done]
            yield from ((FORWARD, name, pixels, batch, path) for name in names for path in PATHS)
        yield from ((SAMPLER, name, 256, batch, path) for name in others for path in PATHS)
        yield from ((FORWARD, DIFFUSERS, 256, batch, path) for path in (EAGER, COMPILED))
    yield from ((FORWARD, name, 512, 64, path) for name in others for path in PATHS)
    yield from ((FORWARD, DIFFUSERS, 512, 64, path) for path in (EAGER, COMPILED))
    yield from ((SAMPLER, name, 256, 64, path) for name in others for path in PATHS)
    yield from (
        (SAMPLER, name, 512, b, path) for name in MAIN for b in (64, 8, 1) for path in PATHS
    )
    yield from ((SAMPLER, name, 2048, 1, path) for name in MAIN for path in PATHS)
    for pixels, batches in ((256, (64, 8, 1)), (512, (64, 8, 1)), (2048, (1,))):
        yield from ((DECODING, DECODER, pixels, b, EAGER) for b in batches)
    yield from ((FORWARD, name, 2048, 64, path) for name in BACKBONES for path in PATHS)


def run(bench: Bench) -> None:
    """Measures the rows that the ledger lacks."""
    for what, name, pixels, batch, path in plan(bench.miniature):
        bench.ledger.measure(
            partial(measured, bench, what, name, pixels, batch, path),
            needs=0 if bench.miniature else COMPILING + expected(bench, what, name, pixels, batch),
            kernels=path == OURS,
            what=what,
            model=name,
            pixels=pixels,
            batch=batch,
            path=path,
        )


def measured(bench: Bench, what: str, name: str, pixels: int, batch: int, path: str) -> Row:
    if what == DECODING:
        return decoding_row(bench, pixels, batch)
    work = forward_row if what == FORWARD else sampler_row
    return work(bench, name, pixels, batch, path)


def expected(bench: Bench, what: str, name: str, pixels: int, batch: int) -> float:
    """Seconds that measuring a row takes at half the speed of its floor."""
    if what == DECODING:
        return 10.0
    once = 2 * floor(name, pixels, batch, bench.best, bench.device, bench.miniature) / 1000
    return (8 if what == FORWARD else 6 * BACKBONES[name].steps) * once


def forward_row(bench: Bench, name: str, pixels: int, batch: int, path: str) -> Row:
    """A forward pass: how far it is from the eager one, then its time."""
    fresh_memory(bench.device)
    model = build(name, pixels, path, bench.device, bench.miniature)
    given = inputs(model, pixels, batch)
    with use("reference"), torch.inference_mode():
        right = plain_call(name, model)(*given).float().cpu()
    fresh_memory(bench.device)
    with running(name, model, path, batch <= MOST_PICTURES, bench.miniature) as call:
        difference = float((call(*given).float().cpu() - right).norm() / right.norm())
        work = partial(call, *given)
        row = timed(work, bench.device, 0 if bench.miniature else SECONDS)
        started = launches(work, bench.device)
    least = floor(name, pixels, batch, bench.best, bench.device, bench.miniature)
    return row | {
        "images_per_second": 1000 * batch / row["milliseconds"],
        # The ceiling is that of bfloat16 products.
        **({} if path in (PUBLISHED, TENSOR_FLOAT) else floors(least, row)),
        "launches": started,
        "peak_gib": peak_gib(bench.device),
        "difference_from_eager": difference,
    }


def floors(least: float, row: Row) -> Row:
    """The least time of what a row measured, and its share."""
    return {"floor_milliseconds": least, "share_of_floor": least / row["milliseconds"]}


def sampler_row(bench: Bench, name: str, pixels: int, batch: int, path: str) -> Row:
    """Whole guided walks from noise, without decoding."""
    fresh_memory(bench.device)
    backbone = BACKBONES[name]
    model = build(name, pixels, path, bench.device, bench.miniature)
    pipeline = as_pipeline(bench, model, name, pixels)
    fresh_memory(bench.device)  # the weights were larger before they were rounded
    steps = 2 if bench.miniature else backbone.steps
    if path == OURS:
        pipeline.optimize(compile=False if bench.miniature else {"dynamic": False})
    elif path == COMPILED:
        compile_whole(model, batch <= MOST_PICTURES, bench.miniature)
    work = partial(whole_walk, pipeline, batch, steps)
    with use("auto" if path == OURS else "reference"):
        row = timed(work, bench.device, 0)
    least = steps * floor(name, pixels, 2 * batch, bench.best, bench.device, bench.miniature)
    return row | {
        "images_per_second": 1000 * batch / row["milliseconds"],
        "steps": steps,
        "scheduler": backbone.scheduler,
        **floors(least, row),
        "peak_gib": peak_gib(bench.device),
    }


def as_pipeline(bench: Bench, model: nn.Module, name: str, pixels: int) -> ClassConditionalPipeline:
    """A pipeline of a model, with a codec of random weights."""
    backbone = BACKBONES[name]
    scheduler = create_scheduler(backbone.scheduler, backbone.prediction)
    codec = create_model("VQ-f16") if backbone.prediction == "tokens" else decoder(bench.miniature)
    return ClassConditionalPipeline(
        model, scheduler, codec.eval(), prediction=backbone.prediction, size=pixels
    ).to(bench.device)


@torch.inference_mode()
def whole_walk(pipeline: ClassConditionalPipeline, batch: int, steps: int) -> torch.Tensor:
    """Latents or tokens of a batch of pictures, drawn as a call of the pipeline draws them."""
    resolved = pipeline.resolve(Settings(steps=steps, guidance=GUIDANCE))
    classes = [index % len(pipeline.classes) for index in range(batch)]
    *_, step = pipeline.walk(classes, range(batch), resolved)
    return step.sample
