"""Which operator a linearized model runs, and why: as `gensynth doctor` says it."""

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gensynth.linearize.attentions import computing_type
from gensynth.linearize.contract import Replaced
from gensynth.linearize.families import Family
from gensynth.ops import explain


def which_operator(
    operator: str, model: nn.Module, family: Family, one: Replaced, options: Any, side: int
) -> str:
    """A line about the first attention at the size that the model was made for, one picture.

    Meta tensors are taken for those of a CPU; a size that `side` does not divide is taken larger.
    """
    *sides, text = family.usual(model)
    height, width = (-(-length // side) * side for length in sides)
    first = next(model.parameters())
    device = "cpu" if first.device.type == "meta" else first.device
    dtype = computing_type(model.parameters())
    shape = (1, one.heads, text + height * width, one.width // one.heads)
    keywords = options.operator_keywords(height, width, text)
    with FakeTensorMode():  # shapes and a device, but no memory
        q, k, v = (torch.empty(shape, dtype=dtype, device=device) for _ in "qkv")
        runs = explain(operator, q, k, v, **keywords)
    return f"{operator} at {height}x{width} tokens runs as {runs}"
