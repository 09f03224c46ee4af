"""Reading what named parts of a model compute, without changing the model."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.errors import UsageError, did_you_mean


@contextmanager
def hidden_states(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the submodules `names` in the first forward pass inside the block, by name.

    They keep their gradients. Later passes change nothing, and neither does the recomputation of
    checkpointed blocks. A part that never ran is absent. After the block the model is as before.

    Args:
        model: the model itself; a wrapper for several processes around it may be what is called.

    Raises:
        UsageError: the model has no submodule of that name.
    """
    parts = dict(model.named_modules())
    names = tuple(names)
    for name in names:
        if name not in parts or not name:  # "" is the model itself
            raise UsageError(unknown_state(name, [part for part in parts if part]))
    states: dict[str, Tensor] = {}

    def keep(name: str) -> Any:  # a closure of its own, or all hooks share the last name
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            states.setdefault(name, output)  # the first pass only

        return hook

    handles = [parts[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def unknown_state(name: str, known: Sequence[str]) -> str:
    """Says that there is no hidden state of that name, and which there are."""
    hint = did_you_mean(name, known)
    return f"the model has no hidden state '{name}'.{hint} Blocks: {numbered(known)}."


def numbered(names: Sequence[str]) -> str:
    """The blocks among submodule names, as ranges: "blocks.0 to 27"; not parts of blocks."""
    last: dict[str, int] = {}
    for name in names:
        prefix, _, number = name.rpartition(".")
        words = [part for part in prefix.split(".") if not part.isdigit()]
        if number.isdigit() and len(words) == 1:  # "blocks.3", not "blocks.3.mlp.0"
            last[prefix] = max(int(number), last.get(prefix, 0))
    spans = (f"{prefix}.0" + (f" to {top}" if top else "") for prefix, top in last.items())
    return ", ".join(spans) or "none"


def hidden_shapes(model: nn.Module, *inputs: Tensor, **text: Tensor) -> dict[str, torch.Size]:
    """Shapes of every hidden state [B, N, C] or [B, C, H, W], in the order they are computed.

    Nothing is computed: the model is called as if its weights were on torch's meta device.
    """
    names = [name for name, _ in model.named_modules() if name]
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shadow = {name: tensor.detach().to("meta") for name, tensor in weights.items()}
    modes = {part: part.training for part in model.modules()}
    model.eval()  # nothing is dropped at random
    with torch.no_grad(), hidden_states(model, names) as states:
        positional = tuple(x.to("meta") for x in inputs)
        named = {name: x.to("meta") for name, x in text.items()}
        torch.func.functional_call(model, shadow, positional, named)
    for part, training in modes.items():
        part.training = training
    return {
        name: state.shape
        for name, state in states.items()
        if isinstance(state, Tensor) and state.dim() in (3, 4)  # not modulations [B, C]
    }


def as_tokens(state: Tensor) -> Tensor:
    """Tokens [B, N, C] of a state [B, N, C] or [B, C, H, W], row by row."""
    return state.flatten(2).transpose(1, 2) if state.dim() == 4 else state


def token_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Number of tokens and width of a state of that shape."""
    return (shape[2] * shape[3], shape[1]) if len(shape) == 4 else (shape[1], shape[2])


def token_grid(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the tokens of a state; [B, N, C] stands for a square.

    Raises:
        UsageError: N is not a square number.
    """
    if len(shape) == 4:
        return shape[2], shape[3]
    side = math.isqrt(shape[1])
    if side * side != shape[1]:
        raise UsageError(f"a state of {shape[1]} tokens does not form a square grid")
    return side, side  # rows and columns
