"""What is refused before anything is changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gensynth.errors import UsageError, did_you_mean
from gensynth.linearize.attentions import KNOWN, base_of, is_fused
from gensynth.linearize.contract import record_of
from gensynth.linearize.families import FAMILIES, Family

PARTS = ("unet", "transformer", "model")  # of a pipeline: one of these draws


def find_model(pipe_or_model: Any) -> tuple[nn.Module, Any]:
    """The network that draws, and the diffusers pipeline around it if there is one.

    Raises:
        UsageError: it is compiled, or there is none.
    """
    pipe = getattr(pipe_or_model, "inner", pipe_or_model)
    if isinstance(pipe, nn.Module):
        return _plain(pipe), None
    for name in PARTS:
        part = getattr(pipe, name, None)
        if isinstance(part, nn.Module):
            if getattr(pipe, "optimized", None) is not None:
                raise UsageError(
                    "the pipeline is optimized for its model as it is; linearize first, then "
                    "optimize."
                )
            return _plain(part), pipe
    raise UsageError(
        f"a {type(pipe_or_model).__name__} is neither a model nor a pipeline with one "
        f"({', '.join(PARTS)})."
    )


def _plain(model: nn.Module) -> nn.Module:
    compiled = "_orig_mod" in model._modules or any(
        vars(module).get("_compiled_call_impl") is not None
        or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
        for module in model.modules()
    )
    if compiled:
        raise UsageError(
            "the model is compiled (torch.compile) and would go on as it was; linearize or restore "
            "first, then compile."
        )
    return model


def family_of(model: nn.Module, method: str) -> Family:
    """The entry of the table that a model belongs to.

    Raises:
        UsageError: the method does not fit it; says what does.
    """
    family = next((one for one in FAMILIES if isinstance(model, one.model)), None)
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


def check_fresh(model: nn.Module) -> None:
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
    for name, attention in attentions.items():
        if has_processor(attention) and type(attention.processor) not in KNOWN:
            raise UsageError(
                f"{name} has the attention processor {type(attention.processor).__name__}, which "
                "does more than attention and would be left out; take it off first."
            )


def check_untouched(attentions: Mapping[str, Any], model: nn.Module) -> None:
    """Raises UsageError where something lies around attentions, or their projections are fused."""
    if any(_offloaded_in_groups(module) for module in model.modules()):
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


def _offloaded_in_groups(module: nn.Module) -> bool:
    registry = vars(module).get("_diffusers_hook")
    return registry is not None and registry.get_hook("group_offloading") is not None


def check_plain_layers(name: str, attention: nn.Module, layers: Sequence[str]) -> None:
    """Refuses layers whose weights cannot be replaced.

    Raises:
        UsageError: they are quantized, or an adapter is fused into them.
    """
    for path in layers:
        layer: Any = attention
        for part in path.split("."):
            layer = layer._modules.get(part) if layer is not None else None
        if layer is None:
            continue
        if vars(layer).get("merged_adapters"):
            raise UsageError(
                f"an adapter is fused into {name}.{path}; call unfuse_lora() before weights are "
                "given, and fuse it again."
            )
        if type(base_of(layer)) is not nn.Linear or not base_of(layer).weight.is_floating_point():
            raise UsageError(
                f"{name}.{path} is quantized, so it cannot be given other weights; linearize "
                "before quantizing."
            )
