"""The backbones of the steps, the ways to run them, and the least time a forward pass can take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.models import create_model
from gensynth.models.counting import PIXELS, multiply_adds
from gensynth.ops import use
from gensynth.ops.local_attention.tiles import disc_pairs
from gensynth.pipelines.acceleration.cuda_graphs import Graphed
from gensynth.pipelines.model_call import asked
from gensynth_benchmarks.measuring import Ceilings

WINDOW = 8
# Plain PyTorch; the same under torch.compile, at small batches with CUDA graphs; our operators in
# compiled blocks, at small batches with CUDA graphs, as `pipeline.optimize()` does it; and plain
# PyTorch in float32 and the memory layout of the published code, with PyTorch's defaults and with
# TF32 in matrix products too. The others are in bfloat16 and with channels last.
EAGER, COMPILED, OURS = "eager", "compiled", "gensynth"
PUBLISHED, TENSOR_FLOAT = "float32 eager", "TF32 eager"
PATHS = (EAGER, COMPILED, OURS)
DIFFUSERS = "DiT-XL/2 of diffusers"


@dataclass(frozen=True)
class Backbone:
    """A model as it is published, the small one that stands for it in a trial, and its sampler."""

    preset: str
    nano: str
    keywords: dict[str, Any] = field(default_factory=dict)
    scheduler: str = "RespacedDDIMScheduler"
    prediction: str = "epsilon"
    steps: int = 50


_SIT = ("FlowMatchEulerDiscreteScheduler", "velocity")
BACKBONES = {
    "DiT-XL/2": Backbone("DiT-XL/2", "DiT-nano/2"),
    "DiCo-XL": Backbone("DiCo-XL", "DiCo-nano"),
    "DiC-XL": Backbone("DiC-XL", "DiC-nano"),
    "DiT-XL/2 linear": Backbone("DiT-XL/2", "DiT-nano/2", {"mixer": "linear"}),
    "DiT-XL/2 local": Backbone("DiT-XL/2", "DiT-nano/2", {"mixer": "local", "window": WINDOW}),
    "MDTv2-XL/2": Backbone("MDTv2-XL/2", "MDTv2-nano/2"),
    "SiT-XL/2": Backbone("SiT-XL/2", "SiT-nano/2", {}, *_SIT),
    "MaskGIT-L": Backbone("MaskGIT-L", "MaskGIT-nano", {}, "HaltonDecoder", "tokens", 32),
}


def create(name: str, pixels: int, miniature: bool) -> nn.Module:
    """A backbone, or diffusers' DiT, with its usual random weights."""
    backbone = BACKBONES["DiT-XL/2" if name == DIFFUSERS else name]
    preset = backbone.nano if miniature else backbone.preset
    if name != DIFFUSERS:
        return create_model(preset, **backbone.keywords)
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    with torch.device("meta"):
        ours = create_model(preset).config
    return DiTTransformer2DModel(
        num_attention_heads=ours.num_heads,
        attention_head_dim=ours.hidden_size // ours.num_heads,
        in_channels=ours.in_channels,
        out_channels=2 * ours.in_channels,
        num_layers=ours.depth,
        sample_size=pixels // PIXELS["latents"],
        patch_size=ours.patch_size,
        num_embeds_ada_norm=1000,
    )


def build(name: str, pixels: int, path: str, device: str, miniature: bool) -> nn.Module:
    """The model of a path, its weights random and nowhere all zero: zeros multiply faster."""
    with torch.device(device):
        model = create(name, pixels, miniature)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02, generator=generator)
    if path in (PUBLISHED, TENSOR_FLOAT):
        return model.eval()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    # Not the model's own: diffusers' warns of parts to be kept in float32, of which ours have none.
    return nn.Module.to(model, dtype=dtype, memory_format=torch.channels_last).eval()


def inputs(model: nn.Module, pixels: int, batch: int) -> tuple[Tensor, ...]:
    """Random ones for pictures of a size, each with a label and a time of its own."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(1)
    labels = torch.arange(batch, device=device) % 1000
    if getattr(model, "works_on", "latents") == "tokens":
        side = pixels // PIXELS["tokens"]
        codes, shape = model.config.codebook_size, (batch, side, side)
        tokens = torch.randint(codes, shape, generator=generator, device=device)
        return tokens, torch.zeros(batch, device=device), labels
    side = pixels // PIXELS["latents"]
    shape = (batch, model.config.in_channels, side, side)
    sample = torch.randn(shape, generator=generator, device=device).to(model.dtype)
    return sample, torch.linspace(1, 999, batch, device=device), labels


def plain_call(name: str, model: nn.Module) -> Callable[..., Tensor]:
    """The model as a function of sample, timestep and labels."""
    if name != DIFFUSERS:
        return lambda sample, time, labels: asked(model, sample, time, {"class_labels": labels})
    return lambda sample, timestep, labels: model(sample, timestep, labels).sample


@contextmanager
def running(
    name: str, model: nn.Module, path: str, graphs: bool, miniature: bool
) -> Iterator[Callable[..., Tensor]]:
    """The model as a function, run on a path, with CUDA graphs or not; it is compiled in place."""
    call = plain_call(name, model)
    if path == COMPILED:
        compile_whole(model, graphs, miniature)
    elif path == OURS and not miniature:
        model.compile_repeated_blocks(dynamic=False)
        if graphs:
            call = Graphed(call, model)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if path == TENSOR_FLOAT else precision)
    try:
        with nullcontext() if path == OURS else use("reference"), torch.inference_mode():
            yield call
    finally:
        torch.set_float32_matmul_precision(precision)


def compile_whole(model: nn.Module, graphs: bool, miniature: bool) -> None:
    """torch.compile of all of a model, with CUDA graphs or not."""
    if miniature:
        model.compile(dynamic=False, backend="eager")
    else:
        model.compile(dynamic=False, mode="reduce-overhead" if graphs else None)


@cache
def flops(name: str, pixels: int, miniature: bool) -> float:
    """Operations of a forward pass of one picture; a multiply-add counts as two.

    Of local attention those of the pairs in its discs, not those of the tiles that cover them.
    """
    if name == DIFFUSERS:
        return flops("DiT-XL/2", pixels, miniature)
    with torch.device("meta"):
        model = create(name, pixels, miniature)
        if model.config.get("mixer") != "local":
            return 2.0 * multiply_adds(model, pixels)
        config = model.config
    side = pixels // PIXELS["latents"] // config.patch_size
    pairs = disc_pairs(side, side, config.window) - side**4
    dense = flops(name.removesuffix(" local"), pixels, miniature)
    return dense + 4 * pairs * config.hidden_size * config.depth


@cache
def weights(name: str, miniature: bool) -> int:
    """How many numbers a forward pass reads of the model itself."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create(name, 256, miniature).parameters())


def floor(
    name: str, pixels: int, batch: int, best: Ceilings, device: str, miniature: bool
) -> float:
    """Least milliseconds of a forward pass: its operations, or reading its weights once."""
    size = 2 if device == "cuda" else 4
    work = batch * flops(name, pixels, miniature)
    return best.milliseconds(size * weights(name, miniature), work)
