"""Calls that stand for an operator's use: for tuning, the compile report and the benchmark."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Specimen:
    """One call, forward and backward.

    Attributes:
        label: shapes and type, for people: "D=64 bfloat16".
        keys: the launches that the call uses, keys of the operator's table.
        inputs: tensors on a device; the flag asks for sizes as in use, else for tiny ones.
        call: launches every kernel of `keys` on these tensors.
    """

    label: str
    keys: tuple[str, ...]
    inputs: Callable[[torch.device, bool], tuple[Tensor, ...]]
    call: Callable[..., Any]
