"""Runs that train adapters: small states of their model, and the folders of their checkpoints."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from gensynth.errors import CorruptError, InputError
from gensynth.experiments.assemble import Parts
from gensynth.experiments.beginning.tuning import Tuning
from gensynth.experiments.distilling.student import OF_TEACHER, Distillation
from gensynth.files import json_in
from gensynth.lora.folder import BASE, FOLDER, find_adapter
from gensynth.lora.layers import plain_copy
from gensynth.lora.store import write_adapter

STATE = "trained.safetensors"  # in the state of a checkpoint, instead of the whole model


def keep_state_small(accelerator: Accelerator, model: nn.Module, tuning: Tuning) -> None:
    """From now on states hold the trained weights of `model`; the others are those of its base."""
    trained = {n: w for n, w in model.named_parameters() if n not in tuning.frozen}

    def save(models: list[Any], states: list[Any], folder: str) -> None:
        del states[_place(accelerator, models, model)]
        if accelerator.is_main_process:
            save_file({n: w.detach().contiguous() for n, w in trained.items()}, Path(folder, STATE))

    def load(models: list[Any], folder: str) -> None:
        del models[_place(accelerator, models, model)]
        stored = load_file(Path(folder, STATE))
        if stored.keys() != trained.keys():
            raise CorruptError(f"{Path(folder, STATE)} does not hold what this run trains.")
        for name, weight in trained.items():
            weight.data.copy_(stored[name])

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _place(accelerator: Accelerator, models: list[Any], model: nn.Module) -> int:
    """Where in accelerate's list a model is, in its wrapper for several processes."""
    return next(i for i, one in enumerate(models) if accelerator.unwrap_model(one) is model)


def write_model(folder: Path, parts: Parts, tuning: Tuning) -> None:
    """Writes the model of a checkpoint into `folder/model`, and adapters, if any, beside it.

    With adapters it is the merged model, which every command takes.
    """
    if parts.distillation is not None:
        parts.distillation.save(folder)
        return
    if tuning.base is None:
        parts.pipeline().save_pretrained(folder / "model")
        return
    parts.pipeline(plain_copy(parts.model)).save_pretrained(folder / "model")
    write_adapter(folder / FOLDER, parts.model, tuning.whole, tuning.base, parts.condition)


def check_base_stayed(checkpoint: Path, tuning: Tuning, pair: Distillation | None) -> None:
    """Refuses to go on with adapters, or a student, of another model than that of the checkpoint.

    Raises:
        InputError: the model of `init_from`, or the teacher, has changed since the run began.
    """
    if pair is not None:
        known = json_in(checkpoint / OF_TEACHER)
        if not isinstance(known, dict) or known.get("mark") != pair.mark:
            raise InputError(
                f"the teacher {pair.section.teacher} has other weights than when this run began. "
                "Put that model back, or begin anew with another output=DIR."
            )
    if tuning.base is None:
        return
    begun = find_adapter(checkpoint / FOLDER)
    if begun.base.get("mark") != tuning.base["mark"]:
        raise InputError(
            f"init_from {tuning.base['name']} has other weights than when this run began (see "
            f"{begun.folder / BASE}). Put that model back, or begin anew with another output=DIR."
        )
