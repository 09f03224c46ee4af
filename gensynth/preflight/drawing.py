"""Orders to draw: numbers, places, and what the JSON files of a model say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gensynth.conditions import CONDITIONS, Classes, Condition, Texts
from gensynth.conditions.classes import LABELS_FILE
from gensynth.conditions.saved_texts import RECORD
from gensynth.errors import InputError, UsageError
from gensynth.files import json_in
from gensynth.lora.folder import Wanted
from gensynth.models.known import check_area, impossible_size
from gensynth.models.presets import PRESETS
from gensynth.pipelines.finding import (
    INDEX,
    about_pipeline,
    known_pipelines,
    parts_folder,
    pretrained_class,
    resolve,
)
from gensynth.preflight.contents import content
from gensynth.preflight.pretrained import check_pretrained
from gensynth.samplers.known import check_scheduler
from gensynth.settings import Settings
from gensynth.system import outline

FORMATS = ("png", "webp", "tif", "npz")


def check_numbers(num: int, seed: int, batch_size: int, kind: str = FORMATS[0]) -> None:
    """
    Raises:
        UsageError: a number out of range, or a format that is none.
    """
    if num < 1:
        raise UsageError(f"--num must be at least 1, got {num}.")
    if not 0 <= seed < 2**63 - num:  # the last picture's seed fits int64
        raise UsageError(f"--seed must be a whole number from 0, got {seed}.")
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {batch_size}.")
    if kind not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got {kind!r}.")


def check_model(
    model: str,
    settings: Settings,
    shown: str | None = None,
    prompts: Sequence[str] = (),
    lora: Sequence[Wanted] = (),
) -> None:
    """Whether there is such a model, and whether it can draw so, as far as its JSON files tell.

    Args:
        shown: the classes that the pictures are to show, as a person types them.
        prompts: what they are to show in words.
        lora: adapters, which may have taught the model to show something else.

    Raises:
        InputError, RefusedError: there is no such model.
        UsageError: a setting out of range, or something that the model does not know.
    """
    check_told(shown, prompts)
    if isinstance(settings.guide, str):
        resolve(settings.guide)
    folder = parts_folder(model)
    check_values(settings)
    index = content(folder / INDEX)
    known = outline.keys("gensynth.pipelines.table", "PIPELINES")
    name = index.get("_class_name")
    if pretrained_class(index) is not None:
        check_pretrained(folder, index, settings, shown, prompts)
        return
    if isinstance(name, str) and name not in known:
        about = about_pipeline(folder, name, index)
        raise InputError(f"{about} {known_pipelines(known)}")
    if not lora:  # loading says what a model with adapters knows
        _check_shown(folder, index, settings, shown, prompts)
    prediction, own = index.get("prediction"), _class_of(index, "scheduler")
    if isinstance(prediction, str) and settings.scheduler not in (None, own):
        path = str(index.get("path", "linear"))
        check_scheduler(settings.scheduler, prediction, settings.scheduler_options, path)
    multiple = _multiple(folder, index)
    if isinstance(settings.size, tuple) and multiple is not None:
        height, width = settings.size
        if height < multiple or width < multiple or height % multiple or width % multiple:
            raise impossible_size(height, width, multiple)


def check_told(shown: str | None, prompts: Sequence[str]) -> None:
    """
    Raises:
        UsageError: classes and prompts at once, whatever the model knows.
    """
    if shown is not None and prompts:
        raise UsageError("classes and prompts are two ways to say what to draw; give one of them.")


def check_values(settings: Settings) -> None:
    """
    Raises:
        UsageError: a value that no model takes.
    """
    guidance, steps, interval = settings.guidance, settings.steps, settings.guidance_interval
    if guidance is not None and not 0 <= guidance < 1000:  # also refuses NaN
        raise UsageError(f"guidance must be from 0 upwards (1 is none), got {guidance}.")
    if settings.size is not None:
        check_area(*settings.size)
    if steps is not None and steps < 1:
        raise UsageError(f"steps must be at least 1, got {steps}.")
    if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
        raise UsageError(
            f"guidance_interval must be two noise levels, 0 <= low < high <= 1, got {interval}."
        )


def _class_of(index: Mapping[str, Any], part: str) -> str | None:
    entry = index.get(part)
    return str(entry[1]) if isinstance(entry, list) and len(entry) == 2 else None


def _check_shown(
    folder: Path,
    index: Mapping[str, Any],
    settings: Settings,
    shown: str | None,
    prompts: Sequence[str],
) -> None:
    kind = CONDITIONS.get(str(index.get("condition_kind", "classes")))
    if kind is None:
        return
    if settings.negative is not None and kind.reads != "texts":
        raise UsageError("this model takes no prompts, so no negative one; leave it out.")
    condition = condition_in(folder, kind) if shown is not None or prompts else None
    if condition is not None and shown is not None:
        condition.parse(shown)
    if condition is not None:
        condition.prompted(prompts)


def condition_in(folder: Path, kind: type[Condition]) -> Condition | None:
    """As much of a model's condition as its JSON files tell; None of damaged ones."""
    if kind is Classes:
        names = json_in(folder / LABELS_FILE)
        known = isinstance(names, list)
        return Classes([str(name) for name in names], None).load(folder) if known else None
    if kind is Texts:
        said = content(folder / RECORD)
        length, examples = said.get("length"), said.get("examples")
        if not isinstance(length, int) or not isinstance(examples, list):
            return None
        return Texts(length, examples=list(map(str, examples)))
    return kind.of_data([])


def _multiple(folder: Path, index: Mapping[str, Any]) -> int | None:
    """What height and width must be multiples of; None where the JSON files do not tell."""
    model = content(folder / "model/config.json")
    patch = content(folder / "autoencoder/config.json").get("patch")
    tiny = _class_of(index, "autoencoder") == "TinyAutoencoder"  # whose patch is always the same
    if patch is None and tiny:
        patch = outline.attribute("gensynth.autoencoders.tiny", "TinyAutoencoder", "patch", None)
    place = next((p for p in PRESETS.values() if p.class_name == _class_of(index, "model")), None)
    if place is None or type(patch) is not int:
        return None
    own = outline.attribute(place.module, place.class_name, "size_multiple", None)
    if own is None and type(model.get("patch_size")) is int:
        own = model["patch_size"] * (model.get("down_factor") or 1)
    return own * patch if type(own) is int else None
