"""What is refused before anything is changed."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gensynth.errors import UsageError, did_you_mean
from gensynth.linearize.attentions import KNOWN, base_of, computing_type, is_fused
from gensynth.linearize.contract import record_of
from gensynth.linearize.families import FAMILIES, Family

PARTS = ("unet", "transformer", "model")  # of a pipeline: one of these draws


def find_model(pipe_or_model: Any) -> tuple[nn.Module, Any]:
    """The network that draws, and the diffusers pipeline around it if there is one.

    Raises:
        UsageError: there is none.
    """
    pipe = getattr(pipe_or_model, "inner", pipe_or_model)
    if isinstance(pipe, nn.Module):
        return pipe, None
    for name in PARTS:
        part = getattr(pipe, name, None)
        if isinstance(part, nn.Module):
            return part, pipe
    raise UsageError(
        f"a {type(pipe_or_model).__name__} is neither a model nor a pipeline with one "
        f"({', '.join(PARTS)})."
    )


def inside(model: nn.Module) -> nn.Module:
    """The model that `torch.compile` was given, or the one itself."""
    return model._modules.get("_orig_mod") or model


def check_not_compiled(model: nn.Module, verb: str, instead: str) -> None:
    """Refuses a model that may go on as it was compiled.

    Args:
        verb: what it was given to.
        instead: what to do with a model that was compiled in place, after loading it anew.

    Raises:
        UsageError: says what to do.
    """
    if inside(model) is not model:
        raise UsageError(
            f"the model is compiled (torch.compile) as it was; {verb} the one that was compiled "
            "(model._orig_mod), and compile that again."
        )
    if any(
        vars(module).get("_compiled_call_impl") is not None
        or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
        for module in model.modules()
    ):
        raise UsageError(
            "the model is compiled (torch.compile) in place as it was, and that cannot be undone; "
            f"load it anew{instead}."
        )


def check_fits(family: Family | None, model: nn.Module, method: str) -> Family:
    """The family of a model that a method is for.

    Raises:
        UsageError: the method does not fit it; says what does.
    """
    kind = type(model).__name__
    if family is None:
        fit = ", ".join(f"{one.model.__name__} ({', '.join(one.methods)})" for one in FAMILIES)
        raise UsageError(f"no method fits a {kind}; known are {fit}.")
    if method not in family.methods:
        fitting = ", ".join(one.name for one in FAMILIES if method in one.methods)
        raise UsageError(
            f"{method} does not fit {family.name} ({kind}): it is for {fitting}. For {family.name} "
            f"there is {', '.join(family.methods)}."
        )
    return family


def check_name(method: str, methods: Mapping[str, Any]) -> None:
    """Raises UsageError unless a method is known."""
    if method not in methods:
        raise UsageError(
            f"unknown method {method!r}; known: {', '.join(methods)}."
            f"{did_you_mean(method, methods)}"
        )


def check_not_linearized(model: nn.Module) -> None:
    """Raises UsageError for a model that is linearized already."""
    done = record_of(model)
    if done is not None:
        raise UsageError(
            f"the model is linearized already ({done.method}); call gensynth.restore first."
        )


def check_attentions(family: Family, attentions: Mapping[str, Any], model: nn.Module) -> None:
    """Refuses attentions that cannot be replaced, or put back.

    Raises:
        UsageError: says why and what to do.
    """
    if not attentions:
        raise UsageError(
            f"this {type(model).__name__} has no self-attention that could be replaced (called "
            f"{family.attentions} and of class {family.kind.__name__})."
        )
    check_untouched(attentions, model)
    if any(_hooked(module, "layerwise_casting") for module in model.modules()):
        raise UsageError(
            "the model stores its weights in a type that it does not compute in "
            "(enable_layerwise_casting), which cannot be undone; load it anew, linearize it, then "
            "enable that."
        )
    for name, attention in attentions.items():
        if has_processor(attention) and type(attention.processor) not in KNOWN:
            raise UsageError(
                f"{name} has the attention processor {type(attention.processor).__name__}, which "
                "does more than attention and would be left out; take it off first."
            )


def check_untouched(attentions: Mapping[str, Any], model: nn.Module) -> None:
    """Raises UsageError where something lies around attentions, or their projections are fused."""
    if any(_hooked(module, "group_offloading") for module in model.modules()):
        raise UsageError(
            "the model is offloaded in groups, which would not know new weights; call this before "
            "enable_group_offload."
        )
    for name, attention in attentions.items():
        if "forward" in vars(attention) or any(_offloaded(m) for m in attention.modules()):
            raise UsageError(
                f"something has been put around {name} (offloading of single layers, or a cache); "
                "take it off, call this again, and put it on."
            )
        if has_processor(attention) and is_fused(attention):
            raise UsageError(
                f"the projections of {name} are fused; call unfuse_qkv_projections() first."
            )


def has_processor(attention: nn.Module) -> bool:
    """Whether it is an attention of diffusers."""
    return "processor" in vars(attention) | attention._modules


def _offloaded(module: nn.Module) -> bool:
    """Whether the weights of a single layer are elsewhere between its calls."""
    hook = vars(module).get("_hf_hook")  # of accelerate
    return bool(vars(hook).get("offload")) if hook is not None else False


def _hooked(module: nn.Module, name: str) -> bool:
    """Whether a module has a hook of diffusers."""
    registry = vars(module).get("_diffusers_hook")
    return registry is not None and registry.get_hook(name) is not None


def check_unfused(name: str, layers: Mapping[str, Any], family: Family, danger: str) -> None:
    """Refuses weights of which an adapter has become a part.

    Args:
        layers: of the attention `name`, by path.
        danger: what would come of it, to go on after "an adapter is fused into ...".

    Raises:
        UsageError: says how to take it out.
    """
    fused = next((path for path, layer in layers.items() if _merged(layer)), None)
    if fused is not None:
        out, again = ("lora.unmerge()", "merge()") if family.ours else ("unfuse_lora()", "fuse it")
        raise UsageError(
            f"an adapter is fused into {name}.{fused}, {danger}; call {out} of the pipeline first, "
            f"then this, then {again} again."
        )


def _merged(layer: nn.Module) -> bool:
    return bool(vars(layer).get("merged_adapters"))


def check_plain_layers(name: str, layers: Mapping[str, Any], instead: str) -> None:
    """Refuses layers whose weights are not numbers that can be replaced, or written.

    Raises:
        UsageError: they are quantized, of a type for storage only, or not there yet.
    """
    for path, layer in layers.items():
        base = base_of(layer)
        weight = base.weight
        if weight.is_meta:
            raise UsageError(f"{name}.{path} has no weights yet (device meta); load them first.")
        plain = type(base) is nn.Linear and type(weight.data) is Tensor
        if not plain or computing_type([weight]) is None:
            raise UsageError(f"{name}.{path} is quantized (or cast to be stored); {instead}.")
