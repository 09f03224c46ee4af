"""Adapters from folders onto a loaded model."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.errors import CorruptError, InputError, UsageError, first_line
from gensynth.files import DAMAGED
from gensynth.lora.folder import CONFIG, Adapter, Wanted, another_base, check_base, find_adapter
from gensynth.lora.layers import adapted_layers, adapter_state, meaning, put_on, use
from gensynth.lora.mark import mark_of
from gensynth.lora.store import read_tensors

# Of peft's settings: those that decide what the tensors do, and those that say where they were put,
# which their names do too, or how they were trained.
TAKEN = ("r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "use_rslora")
UNUSED = (
    *("peft_type", "task_type", "peft_version", "base_model_name_or_path", "revision"),
    *("auto_mapping", "inference_mode"),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform"),
    *("layers_pattern", "megatron_core", "qalora_group_size", "runtime_config"),
)
# How the tensors began: others than these, such as pissa, also changed the weights of the base.
BEGINNINGS = (True, False, "gaussian", "orthogonal")
OF_LAYER = re.compile(r"(.+)\.lora_[AB]\.weight")
SHOWN = 3  # tensors named in an error


@dataclass
class Adapters:
    """The adapters of a model in memory, in the order in which they were given.

    They act in the layers themselves, so that their scale can be changed; merged they cost nothing.
    """

    model: nn.Module
    wanted: list[Wanted] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    last: Adapter | None = None  # the one that changed what the model shows, if one did

    def scale(self, scale: float, adapter: int | None = None) -> None:
        """Lets one adapter, or all of them, count `scale` times what was trained.

        Raises:
            UsageError: they are merged, or there is no such adapter.
        """
        if any(layer.merged for _, layer in adapted_layers(self.model)):
            raise UsageError("the adapters are merged; call unmerge() before their scale changes.")
        for number in range(len(self.wanted)) if adapter is None else [adapter]:
            if not 0 <= number < len(self.wanted):
                raise UsageError(
                    f"there is no adapter {number}; they are 0-{len(self.wanted) - 1}."
                )
            self.wanted[number] = Wanted(self.wanted[number].folder, scale)
            for _, layer in adapted_layers(self.model):
                layer.set_scale(_name(number), scale)

    def merge(self) -> None:
        """Adds the adapters to the weights of their layers: the same pictures up to rounding."""
        for _, layer in adapted_layers(self.model):
            if not layer.merged:
                layer.merge(safe_merge=True)

    def unmerge(self) -> None:
        """Takes the adapters out of the weights again, up to rounding."""
        for _, layer in adapted_layers(self.model):
            if layer.merged:
                layer.unmerge()

    def facts(self) -> list[dict[str, Any]]:
        """What decides the pictures, for recipes: each adapter by name, mark and scale."""
        return [
            {"adapter": one.folder.name, "mark": mark, "scale": one.scale}
            for one, mark in zip(self.wanted, self.marks, strict=True)
        ]


def apply(model: Any, wanted: Sequence[Wanted], base: str) -> Adapters:
    """Puts adapters on a loaded model; `Adapters.model` is it, or one of another configuration.

    Args:
        base: what the model was loaded as.

    Raises:
        InputError: no adapter there, or one of another model.
        UsageError: two that cannot be used together.
        CorruptError, RefusedError: damaged files, or a pickle.
    """
    adapters = [find_adapter(one.folder) for one in wanted]
    for adapter in adapters:
        check_base(adapter, base, type(model).__name__)
    if any(adapter.base for adapter in adapters):
        mark = mark_of(model)
        for adapter in adapters:
            if adapter.base.get("mark", mark) != mark:
                raise another_base(adapter, base, f"the weights of {base} are others")
    tensors = [read_tensors(adapter) for adapter in adapters]
    whole = _whole(adapters, tensors)
    model, changed = _with_own_parts(model, adapters, whole, base)
    own_parts = (a for a, own in zip(adapters, tensors, strict=True) if a.base and _brings(own))
    last = changed or next(own_parts, next((a for a in adapters if a.base), None))
    marks = []
    for number, (adapter, own) in enumerate(zip(adapters, tensors, strict=True)):
        _put(model, adapter, own, _name(number), base)
        marks.append(_mark(own))
    use(model, [_name(number) for number in range(len(adapters))])
    done = Adapters(model, list(wanted), marks, last)
    for number, one in enumerate(wanted):
        done.scale(one.scale, number)
    model.requires_grad_(False)
    return done


def _name(number: int) -> str:
    return f"adapter_{number}"


def _mark(tensors: Mapping[str, Tensor]) -> str:
    holder = nn.Module()
    for number, (_, tensor) in enumerate(sorted(tensors.items())):
        holder.register_buffer(str(number), tensor)
    return mark_of(holder)


def _brings(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there is more than layers' adapters."""
    return not all(OF_LAYER.fullmatch(name) for name in tensors)


def _whole(
    adapters: Sequence[Adapter], tensors: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors that take the place of the base's.

    Raises:
        UsageError: two adapters bring the same one.
    """
    found: dict[str, Tensor] = {}
    for adapter, own in zip(adapters, tensors, strict=True):
        for name, tensor in own.items():
            if OF_LAYER.fullmatch(name):
                continue
            if name in found and not torch.equal(found[name], tensor):
                raise UsageError(
                    f"{adapter.folder} and an adapter before it both bring their own {name}, so "
                    "they cannot be used together; leave one out."
                )
            found[name] = tensor
    return found


def _with_own_parts(
    model: Any, adapters: Sequence[Adapter], whole: Mapping[str, Tensor], base: str
) -> tuple[Any, Adapter | None]:
    """The model with the tensors that adapters bring, as they were trained with it."""
    own = {key: value for key, value in model.config.items() if not key.startswith("_")}
    changed = None
    for adapter in adapters:
        config = {k: v for k, v in adapter.base.get("model", {}).items() if k != "_class_name"}
        if not config or _same(config, own):
            continue
        if changed is not None and changed.base["model"] != adapter.base["model"]:
            raise UsageError(
                f"{changed.folder} and {adapter.folder} each change the model in another way, so "
                "they cannot be used together; leave one out."
            )
        changed = adapter
    state: dict[str, Tensor] = model.state_dict()
    if changed is None:
        _check_names(adapters[0], whole, {n: t for n, t in state.items() if n in whole}, base)
        model.load_state_dict({**state, **whole})
        return model, None
    return _rebuilt(type(model), changed, {**state, **whole}, base), changed


def _same(config: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether two configurations mean the same; JSON knows no tuples."""

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return {k: plain(v) for k, v in config.items()} == {k: plain(v) for k, v in own.items()}


def _rebuilt(kind: Any, adapter: Adapter, state: Mapping[str, Tensor], base: str) -> Any:
    """A model of the adapter's configuration with the weights of the base and the adapter.

    Raises:
        InputError: they are not enough for it.
        CorruptError: there is no such configuration.
    """
    config = {k: v for k, v in adapter.base["model"].items() if k != "_class_name"}
    try:
        with torch.device("meta"):  # shapes first: a damaged file may ask for any size
            wanted = dict(kind(**config).state_dict())
    except DAMAGED as error:
        raise CorruptError(
            f"{adapter.folder}: no model can be built of its base.json ({first_line(error)[:200]})."
        ) from error
    there = {name: state[name] for name in wanted if name in state}
    _check_names(adapter, wanted, there, base)
    with torch.random.fork_rng(devices=[]):  # its random weights are replaced at once
        model = kind(**config)
    model.load_state_dict(there)
    return model.eval()


def _put(
    model: nn.Module, adapter: Adapter, tensors: Mapping[str, Tensor], name: str, base: str
) -> None:
    """Puts one adapter on the layers that its file has tensors for."""
    from peft import LoraConfig, set_peft_model_state_dict

    own = {n: t for n, t in tensors.items() if OF_LAYER.fullmatch(n)}
    layers = sorted({found[1] for n in own if (found := OF_LAYER.fullmatch(n))})
    unknown = [n for n in layers if not _takes_adapter(model, n)]
    if unknown or not layers:
        what = f"has no layers {', '.join(unknown[:SHOWN])}" if unknown else "is given no layer"
        raise another_base(adapter, base, f"{base} {what}")
    ranks = {len(tensor) for n, tensor in own.items() if ".lora_A." in n}
    _check_plain(adapter, LoraConfig())
    settings = {key: adapter.config[key] for key in TAKEN if key in adapter.config}
    settings |= {"target_modules": meaning(layers), "inference_mode": True}
    try:
        if max([settings.get("r", 8), *(settings.get("rank_pattern") or {}).values()]) > max(ranks):
            raise ValueError("its rank is not that of its tensors")
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of several adapters on a model, which is meant
            put_on(model, LoraConfig(**settings), name)
    except DAMAGED as error:
        raise CorruptError(
            f"{adapter.folder}: peft cannot put this adapter on a model: {first_line(error)[:200]}."
        ) from error
    _check_names(adapter, adapter_state(model, name), own, base)
    set_peft_model_state_dict(model, dict(own), adapter_name=name)


def _check_plain(adapter: Adapter, plain: Any) -> None:
    """Refuses an adapter that says more than is understood here.

    Args:
        plain: peft's `LoraConfig` with its defaults, which are what may be said of everything else.

    Raises:
        InputError: with the name of the field.
    """
    defaults = plain.to_dict()
    for key, value in adapter.config.items():
        # Nothing, in any way of writing it, is always plain; a field of a later peft is unknown.
        if key in TAKEN or key in UNUSED or not value or value == defaults.get(key):
            continue
        if key == "init_lora_weights" and value in BEGINNINGS:
            continue
        raise InputError(
            f"the adapter {adapter.folder} sets {key} in {CONFIG}, which gensynth does not "
            f"know how to apply. Merge it into its base with peft, or give one without {key}."
        )


def _takes_adapter(model: nn.Module, name: str) -> bool:
    from peft.tuners.lora import LoraLayer

    try:
        layer = model.get_submodule(name)
    except AttributeError:
        return False
    return isinstance(layer, nn.Linear | nn.Conv2d | LoraLayer)


def _check_names(
    adapter: Adapter, wanted: Mapping[str, Tensor], there: Mapping[str, Tensor], base: str
) -> None:
    """Refuses tensors that are not those a model needs.

    Raises:
        InputError: missing ones, further ones or ones of another shape.
    """
    missing = sorted(wanted.keys() - there.keys())
    extra = sorted(there.keys() - wanted.keys())
    shaped = [n for n in wanted if n in there and wanted[n].shape != there[n].shape]
    if missing or extra or shaped:
        named = ", ".join([*shaped, *missing, *extra][:SHOWN])
        raise another_base(adapter, base, f"{named} of it and of {base} do not fit each other")
