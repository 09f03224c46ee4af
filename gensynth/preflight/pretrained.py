"""Orders to draw with a pipeline of diffusers, as far as its JSON files tell."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gensynth.conditions import Texts
from gensynth.errors import UsageError
from gensynth.pipelines.finding import INDEX, parts_folder, pretrained_class
from gensynth.pipelines.pretrained.checking import (
    check_scheduler,
    check_settings,
    checked_size,
)
from gensynth.pipelines.pretrained.families import EXAMPLES, FAMILIES, LENGTH
from gensynth.pipelines.pretrained.options import LoadOptions, check_own
from gensynth.preflight.contents import content
from gensynth.settings import Settings


def check_pretrained(
    folder: Path,
    index: Mapping[str, Any],
    settings: Settings,
    shown: str | None,
    prompts: Sequence[str],
) -> None:
    """Whether a pipeline of diffusers can draw so.

    Args:
        index: what its `model_index.json` says.
        shown, prompts: as of `preflight.drawing.check_model`.

    Raises:
        UsageError: a setting out of range or that it does not have, or classes.
    """
    family = FAMILIES[str(index["_class_name"])]
    condition = Texts(LENGTH, examples=EXAMPLES)
    if shown is not None:
        condition.parse(shown)
    condition.prompted(prompts)
    network = content(folder / family.network / "config.json")
    vae = content(folder / "vae" / "config.json")
    if network and vae:
        check_settings(family, network, settings)
        if settings.size is not None:
            checked_size(family, vae, network, settings.size)
    own = index.get("scheduler")  # [module, class]
    check_scheduler(
        family, settings.scheduler, own[1] if isinstance(own, list) and len(own) == 2 else None
    )


def refuse_pretrained(model: str, why: str) -> None:
    """Refuses a pipeline of diffusers where a model of gensynth is needed.

    Args:
        why: what is needed instead, to follow "is a pipeline of diffusers".

    Raises:
        UsageError: it is one.
        InputError, RefusedError: there is no such model.
    """
    if pretrained_class(content(parts_folder(model) / INDEX)) is not None:
        raise UsageError(f"{model} is a pipeline of diffusers; {why}.")


def check_options(models: Sequence[str], texts: Sequence[str]) -> LoadOptions:
    """The options of loading in texts like "dtype=bf16", if all the models have them.

    Raises:
        UsageError: one that there is not, or options for a model of gensynth itself.
        InputError, RefusedError: there is no such model.
    """
    options = LoadOptions.read(texts)
    for model in models if options.given() else ():
        if pretrained_class(content(parts_folder(model) / INDEX)) is None:
            check_own(options, model)
    return options
