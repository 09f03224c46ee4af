"""A finished model by folder, run, name or hub id."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging

from gensynth.errors import InputError, UsageError
from gensynth.linearize.swap import linearize
from gensynth.lora.apply import apply
from gensynth.lora.folder import Adapter, Wanted, checked_scale
from gensynth.pipelines import PIPELINE_OF, PIPELINES
from gensynth.pipelines.finding import INDEX as INDEX
from gensynth.pipelines.finding import LINEARIZED, about_pipeline, base_of, known_pipelines
from gensynth.pipelines.finding import resolve as resolve
from gensynth.pipelines.parts import (
    check_loaded,
    check_parts,
    checked_entries,
    checked_settings,
    load_parts,
    read_index,
    telling_damage,
)
from gensynth.pipelines.pretrained.families import FAMILIES
from gensynth.pipelines.pretrained.fetching import with_weights
from gensynth.pipelines.pretrained.opening import open_pretrained
from gensynth.pipelines.pretrained.options import LoadOptions, check_own
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pretrained import DEFAULT
from gensynth.settings import Settings
from gensynth.system.memory import LESS, telling_full


def load(
    model: str | Path = DEFAULT,
    device: str | torch.device = "auto",
    variant: str | None = None,
    lora: str | Path | Wanted | Sequence[str | Path | Wanted] = (),
    lora_scale: float | Sequence[float] | None = None,
    **options: Any,
) -> Any:
    """The pipeline of a finished model, ready to be called, in float32.

    Most are a `ClassConditionalPipeline`; all that draw keep to `pipelines.contract.Pipeline`. Of a
    folder or hub id of diffusers it is a `PretrainedPipeline`, in 16 bits on a GPU.

    Args:
        model: a name in `PRETRAINED`, a pipeline folder, the output folder of a run (the newest
            checkpoint's averaged weights if the run is not finished), or a hub id "owner/name".
            Of diffusers' pipelines those of `pipelines.pretrained.families`.
        device: "auto" (CUDA if there is one), "cpu", "cuda:1", ...
        variant: of the weights, as diffusers stores them ("fp16"); None: those without a variant,
            or the only one there is. Weights of 16 bits become float32.
        lora: folder of an adapter, or of the run that trained it; or several. They act in the
            layers of the model: `pipe.lora.scale(0.5)`, `merge()` and `unmerge()`.
        lora_scale: how much the adapters count, one number or one for each. [default: 1]
        options: of a pipeline of diffusers: dtype ("bf16", "fp16", "float32"), offload ("model",
            "sequential"), vae_tiling, vae_slicing; see `pipelines.pretrained.options`.

    Raises:
        UsageError: an option that there is not, or that this model does not have.
        InputError: there is no such model or variant, or the folder is not one; or an adapter of
            another model.
        RefusedError: the folder names code from elsewhere, or the file is a pickle.
        CorruptError: the weights are damaged, not finite or belong to another model, or the
            tokenizer is not the one that the model was trained with.
    """
    how = LoadOptions.of(options)
    folder = resolve(model)
    index = read_index(folder)
    if index["_class_name"] == LINEARIZED:
        refuse_adapters(adapters_of(lora, lora_scale), str(model))
        return open_linearized(str(model), folder, index, device, variant, options)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = adapters_of(lora, lora_scale)
    if index["_class_name"] in FAMILIES:
        refuse_adapters(wanted, str(model))
        folder = with_weights(str(model), folder, index, variant)
        return open_pretrained(str(model), folder, index, torch.device(device), variant, how)
    check_own(how, str(model))
    pipeline_class: type[SavedPipeline] = _pipeline_class(folder, index)
    entries = checked_entries(folder, index)
    settings = checked_settings(folder, index, pipeline_class)
    variants = check_parts(folder, entries, variant)
    diffusers_logging.disable_progress_bar()
    what = f"{model} cannot be loaded"
    with telling_full(what, LESS), telling_damage(folder):
        parts = load_parts(folder, entries, variants)
    adapters = apply(parts["model"], wanted, str(model)) if wanted else None
    own = folder
    if adapters is not None:
        parts["model"] = adapters.model
        if adapters.last is not None:
            own, settings = adapters.last.folder, settings | _as_trained(adapters.last)
            pipeline_class = _class_for(pipeline_class, settings)
    with telling_damage(own):
        pipeline: Any = pipeline_class(**parts, **settings)
        pipeline.lora = adapters
        pipeline.condition = pipeline.condition.load(own)
        check_loaded(folder, pipeline)
    pipeline.name = str(model)
    pipeline.model.to(memory_format=torch.channels_last)  # the layout, not the values
    pipeline.model.eval()
    with telling_full(what, LESS):
        return pipeline.to(device)


def open_linearized(
    model: str,
    folder: Path,
    index: dict[str, Any],
    device: str | torch.device,
    variant: str | None,
    options: dict[str, Any],
) -> Any:
    """A pipeline of diffusers with linear attention, whose weights lie in `folder`.

    Raises:
        InputError, CorruptError: as `base_of`, `load` and `linearize`.
    """
    pipeline = load(base_of(folder, index), device, variant, **options)
    linearize(pipeline, index["method"], folder)
    pipeline.name = model
    return pipeline


def adapters_of(
    lora: str | Path | Wanted | Sequence[str | Path | Wanted],
    scale: float | Sequence[float] | None,
) -> list[Wanted]:
    """Adapters as they are given to `load`, each with its scale.

    Raises:
        UsageError: another number of scales than of adapters.
    """
    given = [lora] if isinstance(lora, str | Path | Wanted) else list(lora)
    wanted = [one if isinstance(one, Wanted) else Wanted(Path(one)) for one in given]
    if scale is None:
        return wanted
    scales = [scale] * len(wanted) if isinstance(scale, int | float) else list(scale)
    if len(scales) != len(wanted):
        raise UsageError(
            f"lora_scale has {len(scales)} numbers for {len(wanted)} adapters; give one for each."
        )
    pairs = zip(wanted, scales, strict=True)
    return [Wanted(one.folder, checked_scale(number)) for one, number in pairs]


def refuse_adapters(wanted: Sequence[Wanted], model: str) -> None:
    """
    Raises:
        UsageError: adapters of ours for a pipeline of diffusers.
    """
    if wanted:
        raise UsageError(
            f"{model} is a pipeline of diffusers, and adapters of gensynth are of its own models; "
            "load a LoRA that diffusers knows by pipe.inner.load_lora_weights(...)."
        )


def _as_trained(adapter: Adapter) -> dict[str, Any]:
    """The settings of a pipeline that an adapter was trained with."""
    given = {key: adapter.base.get(key) for key in ("size", "condition_kind")}
    return {key: value for key, value in given.items() if value is not None}


def _class_for(
    pipeline_class: type[SavedPipeline], settings: dict[str, Any]
) -> type[SavedPipeline]:
    return PIPELINE_OF.get(str(settings.get("condition_kind")), pipeline_class)


def with_guide(settings: Settings, device: str | torch.device = "auto") -> Settings:
    """The settings with their guide loaded, if they name one."""
    if not isinstance(settings.guide, str):
        return settings
    return settings.but(guide=load(settings.guide, device))


def _pipeline_class(folder: Path, index: dict[str, Any]) -> type[SavedPipeline]:
    name = index["_class_name"]
    if name not in PIPELINES:
        about = about_pipeline(folder, name, index)
        raise InputError(f"{about} {known_pipelines(PIPELINES)}")
    return PIPELINES[name]
