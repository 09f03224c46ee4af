"""Arguments that kernel and definition refuse in the same words."""

from torch import Tensor

from gensynth.errors import UsageError


def check_alike(**tensors: Tensor | None) -> None:
    """Refuses tensors of unlike type or device; none stands for an argument that is not given.

    Raises:
        UsageError: names the tensor that differs from the first.
    """
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    (first, like), *others = given.items()
    for name, tensor in others:
        if tensor.dtype != like.dtype:
            raise UsageError(
                f"{name} must have the type of {first}, {short(like)}, got {short(tensor)}."
            )
        if tensor.device != like.device:
            raise UsageError(
                f"{name} must be on the device of {first}, {like.device}, got {tensor.device}."
            )


def short(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
