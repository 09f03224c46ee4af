"""How a model is checkpointed, laid out and compiled: from outside, block by block, in this order.

Weights keep their names, so that what is saved is the same.
"""

from collections.abc import Iterable

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from gensynth.config import Training
from gensynth.errors import UsageError

# A kind of block is compiled once for each width, size and number of inputs it is called with,
# anew for pictures drawn while training; above torch's own limit of 8 it would run uncompiled.
MOST_COMPILED = 64


def lay_out(model: ModelMixin, settings: Training) -> ModelMixin:
    """First: blocks recomputed in the backward pass if that is asked for, channels last."""
    if settings.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.to(memory_format=torch.channels_last)


def compile_blocks(model: ModelMixin, watched: Iterable[str] = ()) -> None:
    """Second, on the device: compiles the repeated blocks in place, each when it is first called.

    Only their `forward`, so that hooks on a block are outside of what is compiled; one inside would
    go on giving the output of an earlier step.

    Args:
        watched: submodules whose outputs are read by hooks.

    Raises:
        UsageError: a model without repeated blocks, or one of `watched` is inside of a block.
    """
    blocks = repeated_blocks(model)
    if not blocks:
        raise UsageError(
            f"training.compile: {type(model).__name__} has no repeated blocks to compile; leave it "
            "out."
        )
    for name in watched:
        outer = next((block for block in blocks if name.startswith(f"{block}.")), None)
        if outer is not None:
            raise UsageError(
                f"training.compile: a regularizer reads {name}, which is inside of the compiled "
                f"{outer}. Let it read {outer}, or set training.compile=false."
            )
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MOST_COMPILED)
    # Where passes keep another number of tokens in every step; all other sizes stay.
    dynamic = None if model.varying_tokens else False
    for block in blocks.values():
        block.forward = torch.compile(block.forward, dynamic=dynamic)


def repeated_blocks(model: ModelMixin) -> dict[str, nn.Module]:
    """The blocks of a model by the names of their modules, in order."""
    kinds = model._repeated_blocks or ()  # diffusers' word, None where a model names none
    return {n: block for n, block in model.named_modules() if type(block).__name__ in kinds}
