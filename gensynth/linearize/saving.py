"""The weights of a linearized model in the released layout of its method."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gensynth.errors import UsageError
from gensynth.linearize import checks
from gensynth.linearize.contract import Linearized, State, record_of
from gensynth.linearize.families import FAMILIES, Family
from gensynth.linearize.swap import METHODS, layers_of


def save(pipe_or_model: Any, folder: str | Path) -> None:
    """Writes what a linearized model has of its own, so that `linearize(weights=folder)` loads it.

    In the layout that the method is published in: LinFusion's config.json with its tensors by
    number, or a file of CLEAR (clear_local_8_down_4.safetensors). Adapters are left out.

    Raises:
        UsageError: the model is not linearized.
        OutputError: the folder cannot be written.
    """
    done, states = own_states(pipe_or_model)
    METHODS[done.method].write(Path(folder), done, states)


def own_weights(pipe_or_model: Any) -> list[Tensor]:
    """The parameters of a linearized model that its method trains.

    Raises:
        UsageError: the model is not linearized.
    """
    _, states = own_states(pipe_or_model)
    return [weight for state in states for weight in state.values()]


def own_states(pipe_or_model: Any) -> tuple[Linearized, list[State]]:
    """What was done to a model, and what each of its attentions has of its own."""
    model, _ = checks.find_model(pipe_or_model)
    done = record_of(model)
    if done is None:
        raise UsageError("the model is not linearized, so it has no weights of that kind.")
    family = next(one for one in FAMILIES if isinstance(model, one.model))
    added = METHODS[done.method].ADDED
    attentions = [model.get_submodule(one.name) for one in done.replaced]
    return done, [own_state(attention, family, added) for attention in attentions]


def own_state(attention: nn.Module, family: Family, added: Iterable[str]) -> State:
    """The tensors of one attention that a method trains, without adapters."""
    state: State = {}
    for path, layer in layers_of(attention, family).items():
        state |= {f"{path}.{own}": tensor for own, tensor in layer.named_parameters()}
    for name in added:
        part = getattr(attention, name, None)
        if isinstance(part, nn.Parameter):
            state[name] = part
        elif isinstance(part, nn.Module):
            state |= {f"{name}.{own}": tensor for own, tensor in part.named_parameters()}
    return state
