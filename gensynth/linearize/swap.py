"""Attentions of a model are replaced, all or none, and put back.

An attention stays the object that it is, with its layers, adapters and processor: it gets another
class, and what that class needs beside. So whatever holds it goes on holding it.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.errors import InputError, UsageError, did_you_mean
from gensynth.linearize import checks, clear, grids, linfusion
from gensynth.linearize.attentions import base_of
from gensynth.linearize.changes import Change, apply, like, undo
from gensynth.linearize.contract import RECORD, Linearized, Replaced, State, Weights, record_of
from gensynth.linearize.families import Family
from gensynth.linearize.fitting import check_fit
from gensynth.linearize.running import which_operator

METHODS: dict[str, ModuleType] = {one.NAME: one for one in (linfusion, clear)}


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
    checks.check_fresh(model)
    family = checks.family_of(model, method)
    attentions = family.attentions_of(model)
    checks.check_attentions(family, attentions, model)
    check_options(how, options)
    found: Weights | None = None if weights is None else how.read(weights, options)
    chosen = choose(how, {**(found.options if found else {}), **options})
    replaced = tuple(Replaced(name, *family.size_of(one)) for name, one in attentions.items())
    if found is not None:
        check_fit(found, replaced)
    changes = how.around(model, chosen, found, family.ours)
    for number, one in enumerate(replaced):
        attention, state = attentions[one.name], found.states[one.name] if found else None
        added = how.additions(one, chosen, state, number, family.ours)
        changes += changes_of(one.name, attention, family, added, state)
        changes.append(Change(attention, "__class__", family.methods[method]))
    if not family.ours:
        changes.append(Change(model, "save_pretrained", refuse_saving))
    side = how.side(chosen)
    runs = which_operator(how.OPERATOR, model, family, replaced[0], chosen, side)
    done = Linearized(method, family.name, chosen, replaced, runs, changes, [])
    apply([*changes, Change(model, RECORD, done)])
    done.handles.extend(tell_grid(model, family, side, pipe))
    return done


def restore(pipe_or_model: Any) -> None:
    """Undoes `linearize`: the model computes what it did before, bit for bit.

    Adapters that were loaded since stay. Weights that were trained in place stay trained, where
    `linearize` was given none: save them before, and load the model anew for the old ones.

    Raises:
        UsageError: it is not linearized, compiled since, or its projections are fused.
    """
    model, _ = checks.find_model(pipe_or_model)
    done = record_of(model)
    if done is None:
        raise UsageError("the model is not linearized, so there is nothing to restore.")
    attentions = {one.name: model.get_submodule(one.name) for one in done.replaced}
    checks.check_untouched(attentions, model)
    for handle in done.handles:
        handle.remove()
    undo(done.changes)
    delattr(model, RECORD)


def refuse_saving(*unused: Any, **options: Any) -> None:
    """In the place of a model's `save_pretrained`, whose folder would load as a softmax model."""
    raise UsageError(
        "save_pretrained of diffusers does not know linear attention; save the weights of a "
        "linearized model by gensynth.linearize.save(pipe, folder), or gensynth.restore it first."
    )


def check_options(how: ModuleType, options: Mapping[str, Any]) -> None:
    """Raises UsageError for an option that the method does not have."""
    known = [one.name for one in fields(how.Options)]
    for name in options:
        if name not in known:
            raise UsageError(
                f"{how.NAME} has no option {name!r}; it has {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )


def choose(how: ModuleType, options: Mapping[str, Any]) -> Any:
    """The options of a method.

    Raises:
        UsageError: one is missing, or has no such value.
    """
    for one in fields(how.Options):
        if one.default is MISSING and one.name not in options:
            raise UsageError(f"say {one.name}=; {how.NAMELESS[one.name]}.")
    return how.Options(**options)


def changes_of(
    name: str,
    attention: nn.Module,
    family: Family,
    added: Mapping[str, Any],
    state: State | None,
) -> list[Change]:
    """What one attention gets: new parts, and the weights of `state` in them and in its layers.

    Raises:
        InputError: tensors are missing, too many, or of other shapes.
        UsageError: layers that cannot be given other weights.
    """
    layers = layers_of(attention, family)
    reference = next(iter(layers.values())).weight
    rest = dict(state or {})
    changes = []
    for key, value in added.items():
        if isinstance(value, nn.Parameter | nn.Module):
            value = filled(value, key, None if state is None else rest, name, reference)
        changes.append(Change(attention, key, value))
    if state is None:
        return changes
    checks.check_plain_layers(name, attention, family.layers)
    wanted = {
        f"{path}.{own}": (layer, own)
        for path, layer in layers.items()
        for own, _ in layer.named_parameters()
    }
    for key, (layer, own) in wanted.items():
        tensor = taken(rest, key, getattr(layer, own), name)
        changes.append(Change(layer, own, like(tensor, getattr(layer, own))))
    if rest:
        raise InputError(f"the weights of {name} have a tensor {next(iter(rest))} that it has not.")
    return changes


def filled(
    value: nn.Parameter | nn.Module,
    key: str,
    state: State | None,
    name: str,
    reference: nn.Parameter,
) -> nn.Parameter | nn.Module:
    """A new part with its tensors of `state`, where and of the type of the attention's others."""
    if isinstance(value, nn.Parameter):
        tensor = value.data if state is None else taken(state, key, value, name)
        return like(tensor, reference)
    if state is not None:
        own = {n: taken(state, f"{key}.{n}", p, name) for n, p in value.named_parameters()}
        value.load_state_dict(own)
    dtype = reference.dtype if reference.is_floating_point() else torch.get_default_dtype()
    return value.to(reference.device, dtype).requires_grad_(reference.requires_grad)


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


def layers_of(attention: nn.Module, family: Family) -> dict[str, Any]:
    """The linear layers of an attention that a method trains, by path, without adapters."""
    found = {}
    for path in family.layers:
        layer: Any = attention
        for part in path.split("."):
            layer = layer._modules.get(part) if layer is not None else None
        if layer is not None:
            found[path] = base_of(layer)
    return found


def tell_grid(model: nn.Module, family: Family, side: int, pipe: Any) -> list[Any]:
    """Hooks by which the attentions of a model hear height and width; none where they know."""
    if family.grid is None:
        return []
    pixels = family.latents(model) * int(getattr(pipe, "vae_scale_factor", 0) or 0)
    teller = grids.Teller(family.grid(), family.told, side, pixels)
    handles = [model.register_forward_pre_hook(teller, with_kwargs=True)]
    if family.deaf is not None:
        handles += [
            module.register_forward_pre_hook(grids.forget, with_kwargs=True)
            for name, module in model.named_modules()
            if re.fullmatch(family.deaf, name)
        ]
    return handles
