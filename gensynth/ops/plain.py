"""Whether a layer is nothing but its weights, so that an operator may take them in its place.

Adapters (peft), parametrizations and hooks act when a layer is called. Where there are any, the
layer has to be called.
"""

from torch import nn
from torch.nn.modules import module as everywhere


def own_forward(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer still computes what `kind` does with its weights.

    Adapters and parametrizations change the class; diffusers' and accelerate's hooks `forward`.
    """
    return type(layer) is kind and "forward" not in vars(layer)


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a layer does what `kind` does with its weights, and nothing beside."""
    return own_forward(layer, kind) and not is_hooked(layer)


def is_hooked(layer: nn.Module) -> bool:
    """Whether something else runs when a layer is called, or on the way back."""
    hooks = (
        layer._forward_pre_hooks,
        layer._forward_hooks,
        layer._backward_pre_hooks,
        layer._backward_hooks,
        everywhere._global_forward_pre_hooks,  # of all layers there are
        everywhere._global_forward_hooks,
    )
    return "forward" in vars(layer) or any(len(some) > 0 for some in hooks)


def hooked_layer(model: nn.Module) -> str | None:
    """The path of the first layer of a model that has hooks; None if none has."""
    return next((path for path, layer in model.named_modules() if is_hooked(layer)), None)
