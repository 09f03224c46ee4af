"""Which number format operators compute in, under autocast too."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

CAST = (torch.float32, torch.float16, torch.bfloat16)  # types that autocast may change


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A block in which operations on the device of `x` keep the type of their inputs."""
    device = x.device.type
    # Of meta, shapes only, autocast does not know.
    if device == "meta" or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def dot_precision() -> str:
    """How kernels multiply float32, as PyTorch is told to: "tf32", or "ieee" for all digits."""
    # Knows the older settings too, which raise once a newer one was used.
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def autocast_inputs(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast is set to; float64 and whole numbers as they are."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.dtype in CAST else x for x in tensors)
