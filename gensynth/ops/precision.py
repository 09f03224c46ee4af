"""Which number format operators compute in, under autocast too."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A block in which operations on the device of `x` keep the type of their inputs."""
    device = x.device.type
    # Of meta, shapes only, autocast does not know.
    if device == "meta" or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def autocast_inputs(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast is set to; as they are where it is off."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in tensors)
