"""Attentions of a model are replaced, all or none, and put back.

An attention stays the object that it is, with its layers, adapters and processor: it gets another
class, and what that class needs beside. So whatever holds it goes on holding it.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gensynth.errors import InputError, UsageError, did_you_mean
from gensynth.linearize import checks, clear, grids, linfusion
from gensynth.linearize.attentions import base_of, computing_type
from gensynth.linearize.changes import (
    Change,
    Hook,
    Place,
    apply,
    parameter_at,
    place_of,
    undo,
)
from gensynth.linearize.contract import (
    RECORD,
    Linearized,
    Method,
    Replaced,
    State,
    Weights,
    record_of,
)
from gensynth.linearize.families import Family, family_of
from gensynth.linearize.fitting import check_fit
from gensynth.linearize.running import which_operator

METHODS: dict[str, Method] = {linfusion.NAME: linfusion, clear.NAME: clear}
SAVING = "save_pretrained"  # of diffusers' models and pipelines


def linearize(
    pipe_or_model: Any,
    method: str = linfusion.NAME,
    weights: str | Path | None = None,
    **options: Any,
) -> Linearized:
    """Makes the self-attention of a pretrained model linear in its tokens, in place.

    Args:
        pipe_or_model: a pipeline of diffusers or gensynth, or its network: UNets of Stable
            Diffusion (linfusion); FLUX, Stable Diffusion 3, PixArt and our DiT (clear).
        method: "linfusion" (arXiv 2409.02097) or "clear" (arXiv 2412.16112).
        weights: published or saved ones, as a folder, a file of safetensors, or an id of the hub:
            "Yuanshi/LinFusion-XL", or "Huage001/CLEAR" with `window` and `down_factor`. None: the
            attentions keep their own weights.
        options: of the method, see `linfusion.Options` and `clear.Options`.

    Returns:
        What was replaced; as text one line that says which operator runs and why.

    Raises:
        UsageError: a method that does not fit, unknown options, a model that is compiled, fused or
            linearized already. Nothing was changed.
        InputError: weights that are not there, or those of another model.
        CorruptError, RefusedError: damaged files, or a pickle.
    """
    checks.check_name(method, METHODS)
    how = METHODS[method]
    model, pipe = checks.find_model(pipe_or_model)
    checks.check_not_compiled(model, "linearize", ", linearize it, then compile")
    checks.check_not_linearized(model)
    family = checks.check_fits(family_of(model), model, method)
    attentions = family.attentions_of(model)
    checks.check_attentions(family, attentions, model)
    check_options(how, options)
    found: Weights | None = None if weights is None else how.read(weights, options)
    chosen = choose(how, {**(found.options if found else {}), **options})
    replaced = tuple(Replaced(name, *family.size_of(one)) for name, one in attentions.items())
    if found is not None:
        check_fit(found, replaced)
    changes: list[Change | Hook] = [*how.around(model, chosen, family.ours)]
    for number, one in enumerate(replaced):
        state = found.states[one.name] if found else None
        attention = attentions[one.name]
        place = new_place(family.layers_of(attention), model)
        added = how.additions(one, chosen, state, number, family.ours)
        changes += changes_of(one.name, attention, family, added, state, place)
        changes.append(Change(attention, "__class__", family.methods[method]))
    side = how.side(chosen)
    changes += tell_grid(model, family, side, pipe)
    runs = which_operator(how.OPERATOR, model, family, replaced[0], chosen, side)
    done = Linearized(method, family.name, chosen, replaced, runs, changes)
    if not family.ours:
        changes.append(Change(model, SAVING, refuse_saving))
    changes.append(Change(model, RECORD, done))
    apply(changes)
    if not family.ours and pipe is not None:
        # in no list of the model's, whose copies would copy the pipeline
        setattr(pipe, SAVING, functools.partial(save_whole, pipe))
    return done


def restore(pipe_or_model: Any) -> None:
    """Undoes `linearize`: the model computes what it did before, bit for bit.

    Adapters that were loaded since stay. Weights that were trained in place stay trained, where
    `linearize` was given none: save them before, and load the model anew for the old ones.

    Raises:
        UsageError: it is not linearized, compiled since, or its projections are fused; or adapters
            are fused into weights that are to go.
    """
    model, pipe = checks.find_model(pipe_or_model)
    done = record_of(checks.inside(model))
    if done is None:
        raise UsageError("the model is not linearized, so there is nothing to restore.")
    checks.check_not_compiled(model, "restore", ", as it was before linearize")
    attentions = {one.name: model.get_submodule(one.name) for one in done.replaced}
    checks.check_untouched(attentions, model)
    family = family_of(model)
    assert family is not None  # it was linearized
    if any(isinstance(one, Change) and one.replaces_weights for one in done.changes):
        danger = "and would be lost with the weights that linearize gave"
        for name, attention in attentions.items():
            checks.check_unfused(name, family.layers_of(attention), family, danger)
    undo(done.changes)
    if isinstance(vars(pipe).get(SAVING) if pipe is not None else None, functools.partial):
        delattr(pipe, SAVING)


def refuse_saving(*unused: Any, **options: Any) -> None:
    """In the place of a model's `save_pretrained`, whose folder would load as a softmax model."""
    raise UsageError(
        "save_pretrained of diffusers does not know linear attention; save the weights of a "
        "linearized model by gensynth.linearize.save(pipe, folder), or gensynth.restore it first."
    )


def save_whole(pipe: Any, *folder: Any, **options: Any) -> None:
    """A pipeline's `save_pretrained`, which is refused before it has written half of it."""
    if record_of(checks.inside(checks.find_model(pipe)[0])) is not None:
        refuse_saving()
    type(pipe).save_pretrained(pipe, *folder, **options)


def check_options(how: Method, options: Mapping[str, Any]) -> None:
    """Raises UsageError for an option that the method does not have."""
    known = [one.name for one in fields(how.Options)]
    for name in options:
        if name not in known:
            raise UsageError(
                f"{how.NAME} has no option {name!r}; it has {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )


def choose(how: Method, options: Mapping[str, Any]) -> Any:
    """The options of a method.

    Raises:
        UsageError: one is missing, or has no such value.
    """
    for one in fields(how.Options):
        if one.default is MISSING and one.name not in options:
            raise UsageError(f"say {one.name}=; {how.MEANINGS[one.name]}.")
    return how.Options(**options)


def new_place(layers: Mapping[str, Any], model: nn.Module) -> Place:
    """Where the new parts of an attention go: to its layers, in a type that computes.

    Raises:
        UsageError: the model has no weights of such a type.
    """
    first, *others = (base_of(layer).weight for layer in layers.values())
    dtype = computing_type(itertools.chain([first, *others], model.parameters()))
    if dtype is None:
        raise UsageError(
            f"all weights of this {type(model).__name__} are of types for storage only; load it in "
            "one that computes (torch_dtype), linearize it, then store it smaller."
        )
    return place_of(first)._replace(dtype=dtype)


def changes_of(
    name: str,
    attention: nn.Module,
    family: Family,
    added: Mapping[str, Any],
    state: State | None,
    place: Place,
) -> list[Change]:
    """What one attention gets: new parts, and the weights of `state` in them and in its layers.

    Raises:
        InputError: tensors are missing, too many, or of other shapes.
        UsageError: layers that cannot be given other weights.
    """
    rest = None if state is None else dict(state)
    changes = []
    for key, value in added.items():
        if isinstance(value, nn.Parameter | nn.Module):
            value = filled(value, key, rest, name, place)
        changes.append(Change(attention, key, value))
    if rest is None:
        return changes
    layers = family.layers_of(attention)
    checks.check_unfused(name, layers, family, "and would act on weights that it was not made for")
    checks.check_plain_layers(name, layers, "linearize before that")
    for path, layer in layers.items():
        base = base_of(layer)
        for own, current in list(base.named_parameters()):
            tensor = taken(rest, f"{path}.{own}", current, name)
            changes.append(Change(base, own, parameter_at(tensor, place_of(current))))
    if rest:
        raise InputError(f"the weights of {name} have a tensor {next(iter(rest))} that it has not.")
    return changes


def filled(
    value: nn.Parameter | nn.Module, key: str, state: State | None, name: str, place: Place
) -> nn.Parameter | nn.Module:
    """A new part with its tensors of `state`, at its place."""
    if isinstance(value, nn.Parameter):
        tensor = value.data if state is None else taken(state, key, value, name)
        return parameter_at(tensor, place)
    if state is not None:
        own = {n: taken(state, f"{key}.{n}", p, name) for n, p in value.named_parameters()}
        value.load_state_dict(own)
    return value.to(place.device, place.dtype).requires_grad_(place.learns)


def taken(state: State, key: str, current: Tensor, name: str) -> Tensor:
    """A tensor out of a state.

    Raises:
        InputError: it is not there, or of another shape.
    """
    tensor = state.pop(key, None)
    if tensor is None or tensor.shape != current.shape:
        found = "is missing" if tensor is None else f"is {list(tensor.shape)}"
        raise InputError(
            f"the weights do not fit {name}: {key} {found}, and should be {list(current.shape)}."
        )
    return tensor


def tell_grid(model: nn.Module, family: Family, side: int, pipe: Any) -> list[Hook]:
    """Hooks by which the attentions of a model hear height and width; none where they know."""
    if family.grid is None:
        return []
    pixels = family.latents(model) * int(getattr(pipe, "vae_scale_factor", 0) or 0)
    hooks = [Hook(model, grids.Teller(family.grid(), family.told, side, pixels))]
    if family.deaf is not None:
        hooks += [
            Hook(module, grids.forget)
            for name, module in model.named_modules()
            if re.fullmatch(family.deaf, name)
        ]
    return hooks
