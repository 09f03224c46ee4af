"""Recomputing blocks in the backward pass instead of keeping what they made."""

from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


def run_block(model: ModelMixin, block: nn.Module, *inputs: Any) -> Tensor:
    """The output of one block of `model`, recomputed later if its checkpointing is on."""
    # diffusers sets the flag and the function in `enable_gradient_checkpointing`
    if model.gradient_checkpointing and torch.is_grad_enabled():
        return model._gradient_checkpointing_func(block, *inputs)
    return block(*inputs)
