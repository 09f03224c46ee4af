"""A finished model by folder, run, name or hub id."""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging

from gensynth.errors import InputError
from gensynth.pipelines import PIPELINES
from gensynth.pipelines.finding import INDEX as INDEX
from gensynth.pipelines.finding import about_pipeline
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
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pretrained import DEFAULT
from gensynth.settings import Settings


def load(
    model: str | Path = DEFAULT,
    device: str | torch.device = "auto",
    variant: str | None = None,
) -> Any:
    """The pipeline of a finished model, ready to be called, in float32.

    Most are a `ClassConditionalPipeline`; all that draw keep to `pipelines.contract.Pipeline`.

    Args:
        model: a name in `PRETRAINED`, a pipeline folder, the output folder of a run (the newest
            checkpoint's averaged weights if the run is not finished), or a hub id "owner/name".
        device: "auto" (CUDA if there is one), "cpu", "cuda:1", ...
        variant: of the weights, as diffusers stores them ("fp16"); None: those without a variant,
            or the only one there is. Weights of 16 bits become float32.

    Raises:
        InputError: there is no such model or variant, or the folder is not one.
        RefusedError: the folder names code from elsewhere, or the file is a pickle.
        CorruptError: the weights are damaged, not finite or belong to another model, or the
            tokenizer is not the one that the model was trained with.
    """
    folder = resolve(model)
    index = read_index(folder)
    pipeline_class = _pipeline_class(folder, index)
    entries = checked_entries(folder, index)
    settings = checked_settings(folder, index, pipeline_class)
    variants = check_parts(folder, entries, variant)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    diffusers_logging.disable_progress_bar()
    with telling_damage(folder):
        pipeline: Any = pipeline_class(**load_parts(folder, entries, variants), **settings)
        pipeline.condition = pipeline.condition.load(folder)
        check_loaded(folder, pipeline)
    pipeline.name = str(model)
    pipeline.model.to(memory_format=torch.channels_last)  # the layout, not the values
    pipeline.model.eval()
    return pipeline.to(device)


def with_guide(settings: Settings, device: str | torch.device = "auto") -> Settings:
    """The settings with their guide loaded, if they name one."""
    if not isinstance(settings.guide, str):
        return settings
    return settings.but(guide=load(settings.guide, device))


def _pipeline_class(folder: Path, index: dict[str, Any]) -> type[SavedPipeline]:
    name = index["_class_name"]
    if name not in PIPELINES:
        about = about_pipeline(folder, name, index)
        raise InputError(f"{about} Its own pipelines: {', '.join(PIPELINES)}.")
    return PIPELINES[name]
