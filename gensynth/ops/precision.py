"""Arithmetic that stays in float32 whatever surrounds it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A block in which operations on the device of `x` keep the type of their inputs."""
    if x.device.type == "meta":  # shapes only; autocast does not know it
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
