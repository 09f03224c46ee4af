"""What this machine has, and what each operator would run on it and why."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gensynth.ops import explain
from gensynth.ops.choice import INTERPRETING, mode, refusal_of_device
from gensynth.ops.launches import cache_file, load_tuned

LIBRARIES = ("torch", "triton", "diffusers", "accelerate", "datasets", "gradio")


@dataclass(frozen=True)
class Use:
    """A call of an operator as a model makes it."""

    operator: str
    where: str
    shapes: tuple[tuple[int, ...], ...]
    keywords: dict[str, Any]


def attention(*shape: int) -> tuple[tuple[int, ...], ...]:
    return (shape, shape, shape)


def depthwise(batch: int, channels: int, side: int) -> tuple[tuple[int, ...], ...]:
    return ((batch, channels, side, side), (channels, 1, 3, 3), (channels,))


USES = (
    Use("linear_attention", "DiT-XL/2 linear, 512 px, batch 1", attention(1, 16, 1024, 72), {}),
    Use("linear_attention", "DiT-XL/2 linear, 256 px, batch 1", attention(1, 16, 256, 72), {}),
    Use("linear_attention", "SDXL with LinFusion, 4096 px", attention(2, 10, 65536, 64), {}),
    Use(
        "local_attention",
        "DiT-XL/2 local, 2048 px, window 8",
        attention(1, 16, 16384, 72),
        {"height": 128, "width": 128, "window": 8},
    ),
    Use(
        "local_attention",
        "FLUX with CLEAR, 4096 px, window 16",
        attention(1, 24, 512 + 65536, 128),
        {"height": 256, "width": 256, "window": 16, "text_length": 512},
    ),
    Use("dwconv_gelu_pool", "DiCo-XL, 256 px, batch 64", depthwise(64, 832, 32), {}),
    Use("dwconv_gelu_pool", "DiCo-XL, 256 px, batch 1", depthwise(1, 832, 32), {}),
)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_machine() -> list[tuple[str, str]]:
    """Pairs of a name and what was found."""
    return [
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("processors", f"{os.cpu_count()}, torch uses {torch.get_num_threads()}"),
        *((name, version(name)) for name in LIBRARIES),
        ("GPU", describe_gpu()),
        ("GENSYNTH_OPS", mode()),
        ("kernels", describe_kernels()),
        ("launches", describe_launches()),
    ]


def version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def describe_gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch can use"
    properties = torch.cuda.get_device_properties(0)
    memory = f"{properties.total_memory / 2**30:.0f} GiB"
    capability = f"compute capability {properties.major}.{properties.minor}"
    return f"{torch.cuda.device_count()} x {properties.name}, {memory}, {capability}"


def describe_kernels() -> str:
    """Whether kernels can run, and how."""
    here = device()
    runs = "in Triton's interpreter" if INTERPRETING else "compiled by Triton"
    return refusal_of_device(here.type, 0 if here.type == "cuda" else None) or runs


def describe_launches() -> str:
    """Whether launches were tuned for this GPU."""
    if not torch.cuda.is_available():
        return "as shipped; tuning needs a GPU"
    tuned = sum(len(table) for table in load_tuned().values())
    if not tuned:
        return "as shipped (gensynth ops tune measures others)"
    return f"{tuned} tuned, in {cache_file()}"


def describe_operators() -> list[tuple[str, str, str]]:
    """For calls as models make them, in bfloat16: operator, where, and what runs and why."""
    here = device()
    rows = []
    with FakeTensorMode():  # shapes and a device, but no memory
        for use in USES:
            tensors = [torch.empty(s, dtype=torch.bfloat16, device=here) for s in use.shapes]
            if use.operator == "dwconv_gelu_pool":
                tensors[0] = tensors[0].to(memory_format=torch.channels_last)
            rows.append((use.operator, use.where, explain(use.operator, *tensors, **use.keywords)))
    return rows
