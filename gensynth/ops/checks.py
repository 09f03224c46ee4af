"""Checks that kernel and definition share, so that both refuse in the same words."""

from torch import Tensor

from gensynth.errors import UsageError


def check_tensors(**tensors: Tensor) -> None:
    """Refuses anything that is not a tensor.

    Raises:
        UsageError: names the argument.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise UsageError(f"{name} must be a tensor, got {type(tensor).__name__}.")


def check_alike(**tensors: Tensor | None) -> None:
    """Refuses tensors whose type or device is not that of the first; None is skipped.

    Raises:
        UsageError: names the tensor that differs from the first.
    """
    first, like = next(iter(tensors.items()))
    assert like is not None
    dtype, device = like.dtype, like.device
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype != dtype:
            raise UsageError(
                f"{name} must have the type of {first}, {short(like)}, got {short(tensor)}."
            )
        if tensor.device != device:
            raise UsageError(
                f"{name} must be on the device of {first}, {device}, got {tensor.device}."
            )


def short(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
