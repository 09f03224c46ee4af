"""FLUX and SDXL at 1024 to 8192 pixels: linear attention beside the unmodified pipeline with SDPA.

One step of diffusers' own pipeline without its text encoders and autoencoder, batch 1, weights and
prompt random and in the real shapes, in bfloat16, eager. `gensynth.linearize` swaps the attention
of the same pipeline, and our operators choose their kernels by themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import torch
from torch import Tensor

import gensynth
from gensynth_benchmarks.gpu_steps.common import LONG, WARM_UPS, Bench, fresh_memory, timed, verdict
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.linear_stacks import (
    FLUX,
    SDXL,
    TEXT,
    TINY_FLUX,
    TINY_SDXL,
    TINY_TEXT,
    create,
    fill,
)
from gensynth_benchmarks.machine import peak_gib
from gensynth_benchmarks.measuring import Table, number, share

FLUX_NAME, SDXL_NAME = "FLUX.1-dev", "SDXL"
FULL = "full"  # SDPA
SIZES = (2048, 1024, 4096, 8192)  # pixels, the most telling first
MINIATURE_SIZES = (64, 128)
SECONDS = 2.0
BUILDING = 40.0  # seconds until a row's weights are drawn
CALLS = WARM_UPS + 1 + 4  # of a row, about


@dataclass(frozen=True)
class Method:
    """A way of attention: what `gensynth.linearize` is asked for, nothing for the pipeline as is.

    Attributes:
        keys: that an image token sees, of all image and text tokens; None for all.
    """

    options: dict[str, Any]
    keys: int | None = None


METHODS: dict[str, dict[str, Method]] = {
    SDXL_NAME: {FULL: Method({}), "linfusion": Method({"method": "linfusion"}, 0)},
    FLUX_NAME: {
        FULL: Method({}),
        "clear, window 8": Method({"method": "clear", "window": 8}, TEXT + 193),
        "clear, window 16": Method({"method": "clear", "window": 16}, TEXT + 793),
    },
}
# Of a step: multiply-adds per image token apart from attention, and layers x width x tokens per
# image token of its self-attentions. SDXL's second level has half of the first one's sides.
LINEAR_WORK = {FLUX_NAME: 57 * 12 * 3072**2, SDXL_NAME: 2.6e12 / 64**2}
LAYERS = {FLUX_NAME: [(57, 3072, 1.0)], SDXL_NAME: [(10, 640, 1.0), (60, 1280, 0.25)]}
PIXELS = 16  # of a token's side: of FLUX, and of SDXL's first level with attention


def plan(miniature: bool) -> Iterator[tuple[str, int, str]]:
    """Model, pixels and method of every row, the most telling first."""
    for pixels in MINIATURE_SIZES if miniature else SIZES:
        for model, methods in METHODS.items():
            yield from ((model, pixels, method) for method in methods)


def run(bench: Bench) -> None:
    """Measures the rows that the ledger lacks."""
    for model, pixels, method in plan(bench.miniature):
        once = operations(model, pixels, method) / bench.best.flops_per_second
        calls = CALLS if once < LONG else 3
        bench.ledger.measure(
            partial(step_row, bench, model, pixels, method, WARM_UPS if once < LONG else 0),
            needs=0 if bench.miniature else BUILDING + 2 * calls * once,
            kernels=method != FULL,
            model=model,
            pixels=pixels,
            method=method,
        )


def operations(model: str, pixels: int, method: str) -> float:
    """Of one step, about, for how long a row may take; a multiply-add counts as two."""
    tokens = (pixels // PIXELS) ** 2
    seen = METHODS[model][method].keys
    work = LINEAR_WORK[model] * tokens
    for layers, width, portion in LAYERS[model]:
        here = portion * tokens
        work += 2 * layers * width * here * (here if seen is None else seen)
    return 2 * work


def step_row(bench: Bench, model: str, pixels: int, method: str, warm_ups: int) -> Row:
    """One step of a pipeline, its attention swapped or not."""
    fresh_memory(bench.device)
    dtype = torch.bfloat16 if bench.device == "cuda" else torch.float32
    pipe = pipeline(model, bench.device, dtype, bench.miniature)
    options = METHODS[model][method].options
    done = gensynth.linearize(pipe, **options) if options else None
    call = partial(one_step, pipe, prompt(model, bench.device, dtype, bench.miniature), pixels)
    row = timed(call, bench.device, 0 if bench.miniature else SECONDS, warm_ups)
    runs = done.runs if done else "SDPA"
    return row | {"runs": runs, "peak_gib": peak_gib(bench.device)}


def pipeline(model: str, device: str, dtype: torch.dtype, miniature: bool) -> Any:
    """diffusers' pipeline around a model of random weights; prompts come embedded."""
    absent = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"), None
    )
    if model == FLUX_NAME:
        network = create(diffusers.FluxTransformer2DModel, TINY_FLUX if miniature else FLUX)
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
        pipe = diffusers.FluxPipeline(scheduler=scheduler, transformer=network, **absent)
    else:
        network = create(diffusers.UNet2DConditionModel, TINY_SDXL if miniature else SDXL)
        scheduler = diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        )
        pipe = diffusers.StableDiffusionXLPipeline(
            scheduler=scheduler, unet=network, add_watermarker=False, **absent
        )
    fill(network, device, dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def prompt(model: str, device: str, dtype: torch.dtype, miniature: bool) -> dict[str, Tensor]:
    """What text encoders would give for one prompt."""
    if model == FLUX_NAME:
        config = TINY_FLUX if miniature else FLUX
        text = TINY_TEXT if miniature else TEXT
        wide, pooled = config["joint_attention_dim"], config["pooled_projection_dim"]
    else:
        config, text = TINY_SDXL if miniature else SDXL, 77
        wide = config["cross_attention_dim"]
        times = 6 * config["addition_time_embed_dim"]
        pooled = config["projection_class_embeddings_input_dim"] - times
    generator = torch.Generator(device).manual_seed(1)
    shapes = {"prompt_embeds": (1, text, wide), "pooled_prompt_embeds": (1, pooled)}
    return {
        name: torch.randn(shape, generator=generator, device=device).to(dtype)
        for name, shape in shapes.items()
    }


def one_step(pipe: Any, given: dict[str, Tensor], pixels: int) -> Tensor:
    """Latents of a picture after one step without guidance by a second pass."""
    return pipe(
        **given,
        height=pixels,
        width=pixels,
        num_inference_steps=1,
        guidance_scale=1.0,
        output_type="latent",
        generator=torch.Generator().manual_seed(2),
    ).images


def tables(rows: Sequence[Row], about: Row) -> list[Table]:
    """Steps by size."""
    columns = ["model", "pixels", "attention", "ms", "spread", "times as fast", "peak GiB"]
    cells = []
    for row in sorted(rows, key=lambda row: (row["model"], row["pixels"])):
        cells.append(
            [
                row["model"],
                str(row["pixels"]),
                row["method"],
                row.get("failed") or number(row["milliseconds"], 1),
                share(row.get("spread")),
                number(gain(row, rows)),
                number(row.get("peak_gib"), 1),
            ]
        )
    return [Table("One step of the pipeline, batch 1", columns, cells)]


def gain(row: Row, rows: Sequence[Row]) -> float | None:
    """How many times as fast a row is as full attention; None for that, or where one failed."""
    key = {"model": row["model"], "pixels": row["pixels"], "method": FULL}
    full = next((one for one in rows if key.items() <= one.items()), {})
    if row is full or "milliseconds" not in row or "milliseconds" not in full:
        return None
    return full["milliseconds"] / row["milliseconds"]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Of each method whether it is anywhere slower than the unmodified pipeline."""
    said = []
    for model, methods in METHODS.items():
        for method in methods:
            if method == FULL:
                continue
            gains = {
                row["pixels"]: value
                for row in rows
                if (row["model"], row["method"]) == (model, method)
                and (value := gain(row, rows)) is not None
            }
            what = f"{model}, {method} over full attention, the least of {len(gains)} sizes"
            said.append(verdict(what, min(gains.values(), default=None), 1.0))
    return said
