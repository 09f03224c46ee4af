"""Adapters on the layers of a model; peft does the work, and is imported when it is needed."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

NAME = "default"  # of the adapter that is trained


def adaptable(model: nn.Module) -> list[str]:
    """The layers that can have an adapter: linear layers and convolutions that are trained.

    Convolutions in groups, which adapters cannot be merged into, and layers that nothing trains are
    left out.
    """
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        if layer.weight.requires_grad
    ]


def meaning(layers: Iterable[str]) -> str:
    """`target_modules` of peft for these layers and no others, whatever the others are called."""
    return "|".join(re.escape(name) for name in layers)


def put_on(model: nn.Module, config: Any, name: str = NAME) -> None:
    """Puts the adapters of a `peft.LoraConfig` on a model; everything else is frozen by that."""
    from peft import inject_adapter_in_model

    inject_adapter_in_model(config, model, name)


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that have adapters, `peft.tuners.lora.LoraLayer`s, with their names."""
    from peft.tuners.lora import LoraLayer

    return ((name, m) for name, m in model.named_modules() if isinstance(m, LoraLayer))


def use(model: nn.Module, names: Sequence[str]) -> None:
    """From now on these adapters act together; they are not trained."""
    for _, layer in adapted_layers(model):
        layer.set_adapter(list(names), inference_mode=True)


def adapter_state(model: nn.Module, name: str = NAME) -> dict[str, Tensor]:
    """The tensors of an adapter by peft's names."""
    from peft import get_peft_model_state_dict

    state: dict[str, Tensor] = get_peft_model_state_dict(
        model, adapter_name=name, save_embedding_layers=False
    )
    return state


@torch.no_grad()
def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the model without adapters that does what this one does, up to rounding."""
    state: dict[str, Tensor] = dict(model.state_dict())
    for path, layer in list(adapted_layers(model)):
        under = f"{path}."
        own = {name: state.pop(name) for name in list(state) if name.startswith(under)}
        base = f"{under}base_layer."
        plain = {n.replace(base, under): t for n, t in own.items() if n.startswith(base)}
        if not layer.merged:
            weight = plain[f"{under}weight"]
            for name in layer.active_adapters:
                if name in layer.lora_A:
                    weight = weight + layer.get_delta_weight(name).to(weight)
            plain[f"{under}weight"] = weight
        state |= plain
    return state


def plain_copy(model: Any) -> Any:
    """A model of the same class without adapters, on the CPU, with the merged weights."""
    with torch.random.fork_rng(devices=[]):  # its random weights are replaced at once
        plain = type(model).from_config(dict(model.config))
    plain.load_state_dict(merged_state(model))
    return plain.eval()
