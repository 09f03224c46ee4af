"""How wrong a kernel is: against its definition in float64, on inputs that hide nothing."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Largest relative error of an output and of a gradient.
GATES = {
    torch.float32: (1e-5, 1e-4),
    torch.float16: (1e-3, 3e-3),
    torch.bfloat16: (6e-3, 1.5e-2),
}


def random(
    *shape: int, seed: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Normal numbers around a mean of each channel's own (the last dimension).

    With mean zero a kernel that reads the wrong channel, or none, is wrong by little.
    """
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(shape[-1], generator=generator)
    return (torch.randn(shape, generator=generator) + means).to(device, dtype)


def error(actual: Tensor, exact: Tensor) -> float:
    """||actual - exact|| / ||exact||; the norm of `actual` where `exact` is zero."""
    exact = exact.detach().double()
    difference = (actual.detach().double() - exact).norm()
    return float(difference / exact.norm() if exact.any() else difference)


def exact(
    definition: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Outputs of `definition` in float64, and gradients of sum(output * weight) for each input."""
    return outputs_and_gradients(
        definition, [x.double() for x in inputs], [w.double() for w in weights]
    )


def outputs_and_gradients(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    gradients = torch.autograd.grad(outputs, leaves, list(weights))
    return tuple(x.detach() for x in outputs), gradients
