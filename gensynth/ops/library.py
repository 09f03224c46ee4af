"""Kernels as operators of PyTorch, `torch.ops.gensynth.*`.

As such they work under torch.compile, autocast, activation checkpointing and distributed training.
"""

from collections.abc import Callable
from typing import Any

import torch

from gensynth.errors import UsageError
from gensynth.ops.precision import autocast_inputs

LIBRARY = torch.library.Library("gensynth", "DEF")


def register(
    schema: str,
    implementation: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """The operator of a schema "name(Tensor x, ...) -> ...", for CPU (interpreted) and CUDA.

    Args:
        implementation: launches the kernels. Must return new tensors, no views of its inputs.
        fake: the same outputs without data, strides included.
        backward, setup_context: as `torch.library.register_autograd` takes them. Without them a
            derivative is an error; so are second derivatives, for gradients are such operators.

    Under autocast the tensors of an operator with a gradient are cast as for a matrix product.
    """
    name = schema.partition("(")[0]
    LIBRARY.define(schema)
    torch.library.register_fake(f"gensynth::{name}", fake, lib=LIBRARY)
    torch.library.register_autograd(
        f"gensynth::{name}",
        backward or no_derivative(name),
        setup_context=setup_context,
        lib=LIBRARY,
    )
    operator = getattr(torch.ops.gensynth, name).default

    def launch(*args: Any) -> Any:
        # Triton launches on the current device, which need not be that of the tensors.
        with torch.cuda.device_of(next(a for a in args if isinstance(a, torch.Tensor))):
            return implementation(*args)

    for device in ("cpu", "cuda"):
        LIBRARY.impl(name, launch, device.upper())
        if backward is not None:  # a gradient takes what the forward pass saved, as it is
            LIBRARY.impl(name, autocast_rule(operator, device), f"Autocast{device.upper()}")
    return operator


def no_derivative(name: str) -> Callable[..., None]:
    """A gradient that is an error: without any, PyTorch warns and leaves the gradient out."""

    def refuse(context: Any, *gradients: Any) -> None:
        what = name.removesuffix("_backward")
        which = "second derivative" if what != name else "derivative"
        raise UsageError(
            f"the kernel gensynth::{what} has no {which}. The definitions, GENSYNTH_OPS=reference, "
            "have those that PyTorch has of their parts."
        )

    return refuse


def autocast_rule(operator: Callable[..., Any], device: str) -> Callable[..., Any]:
    def rule(*args: Any) -> Any:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        cast = iter(autocast_inputs(*tensors))
        # Off inside: this rule is asked again otherwise, without end.
        with torch.autocast(device, enabled=False):
            return operator(*(next(cast) if isinstance(a, torch.Tensor) else a for a in args))

    return rule
