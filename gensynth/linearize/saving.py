"""The weights of a linearized model in the released layout of its method."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gensynth.errors import UsageError
from gensynth.linearize import checks
from gensynth.linearize.attentions import base_of
from gensynth.linearize.contract import Linearized, State, record_of
from gensynth.linearize.families import Family, family_of
from gensynth.linearize.swap import METHODS
from gensynth.system.disk import at_home, check_writable


def save(pipe_or_model: Any, folder: str | Path) -> None:
    """Writes what a linearized model has of its own, so that `linearize(weights=folder)` loads it.

    In the layout that the method is published in: LinFusion's config.json with its tensors by
    number, or a file of CLEAR (clear_local_8_down_4.safetensors). Adapters are left out.

    Raises:
        UsageError: the model is not linearized, quantized since, or adapters are fused into it.
        OutputError: the folder cannot be written.
    """
    done, family, attentions = _linearized(pipe_or_model)
    how = METHODS[done.method]
    for name, attention in attentions.items():
        layers = trained_layers(attention, family, how.ADDED)
        linear = {path: layer for path, layer in layers.items() if path in family.layers}
        checks.check_unfused(name, layers, family, "and would be saved as a part of its weights")
        checks.check_plain_layers(name, linear, "save before that")
    target = Path(at_home(str(folder)))
    check_writable(target, "choose another folder")
    states = [own_state(attention, family, how.ADDED) for attention in attentions.values()]
    how.write(target, done, states)


def own_weights(pipe_or_model: Any) -> list[Tensor]:
    """The parameters of a linearized model that its method trains.

    Raises:
        UsageError: the model is not linearized.
    """
    done, family, attentions = _linearized(pipe_or_model)
    added = METHODS[done.method].ADDED
    states = (own_state(attention, family, added) for attention in attentions.values())
    return [weight for state in states for weight in state.values()]


def _linearized(pipe_or_model: Any) -> tuple[Linearized, Family, dict[str, nn.Module]]:
    """What was done to a model, and the attentions that compute otherwise."""
    model = checks.inside(checks.find_model(pipe_or_model)[0])
    done, family = record_of(model), family_of(model)
    if done is None:
        raise UsageError("the model is not linearized, so it has no weights of that kind.")
    assert family is not None  # it was linearized
    return done, family, {one.name: model.get_submodule(one.name) for one in done.replaced}


def own_state(attention: nn.Module, family: Family, added: Iterable[str]) -> State:
    """The tensors of one attention that a method trains, without adapters."""
    state: State = {}
    for path, layer in trained_layers(attention, family, added).items():
        state |= {f"{path}.{own}": tensor for own, tensor in base_of(layer).named_parameters()}
    own = attention._parameters
    return state | {name: tensor for name in added if (tensor := own.get(name)) is not None}


def trained_layers(attention: nn.Module, family: Family, added: Iterable[str]) -> dict[str, Any]:
    """The layers with those tensors, by path, with adapters around them."""
    layers = family.layers_of(attention)
    for name in added:
        part = attention._modules.get(name)
        if part is not None:
            layers |= {f"{name}.{path}": layer for path, layer in part.named_children()}
    return layers
