"""An experiment from its YAML file, checked before anything loads."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gensynth.config import (
    DDPM,
    EMA,
    Dispersive,
    Experiment,
    Flow,
    LayerSync,
    Masked,
    Reconstruction,
    Repa,
    parse_yaml,
)
from gensynth.errors import InputError, UsageError

OBJECTIVES: dict[str, Any] = {
    "flow": Flow,
    "ddpm": DDPM,
    "masked": Masked,
    "reconstruction": Reconstruction,
}
REGULARIZERS = {"dispersive": Dispersive, "layersync": LayerSync, "repa": Repa}


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a YAML file with `key=value` overrides applied.

    Raises:
        InputError: the file is not there.
        UsageError: an unknown key, a wrong value, or a combination that cannot work; the message
            names the file, the key, what is allowed and the nearest known key.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}.{_nearest_configs(path)}")
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file in UTF-8.") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: expected sections like 'data:' and 'model:', got {tree!r}.")
    for override in overrides:
        _apply_override(tree, override)
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        origin = f"{path} with {' '.join(overrides)}" if overrides else str(path)
        problems = [_explain(problem, tree) for problem in error.errors()]
        raise UsageError(f"{origin}: " + " ".join(problems)) from error
    check_model(experiment)
    return experiment


def check_model(experiment: Experiment) -> None:
    """Checks what the schema cannot know: the model's own keywords, and that the parts fit.

    Raises:
        UsageError: an unknown model, keyword or scheduler, a value the model refuses, or one that
            the objective or the data contradict.
    """
    import torch

    from gensynth.models import constructor_keywords, preset
    from gensynth.training.build import build_model, build_scheduler

    name, given = experiment.model.name, experiment.model.model_extra or {}
    preset(name)  # raises for an unknown name
    known = constructor_keywords(name)
    for key in given:
        if key not in known:
            raise UsageError(
                f"unknown key 'model.{key}' for {name}.{_nearest(key, known)} "
                f"Known: {', '.join(known)}."
            )
    _check_parts(experiment)
    _check_contradictions(experiment, given)
    if experiment.objective.works_on != "pixels":
        build_scheduler(experiment)
    try:
        with torch.device("meta"):
            model = build_model(experiment, num_classes=2)
    except UsageError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        values = ", ".join(f"{key}={value!r}" for key, value in given.items()) or "its defaults"
        at = f"data.size {experiment.data.size}, autoencoder.patch {experiment.autoencoder.patch}"
        raise UsageError(f"model {name} cannot be built with {values} at {at}: {error}.") from error
    side = experiment.data.size // experiment.autoencoder.patch
    if side % model.size_multiple:
        raise UsageError(
            f"{name} needs a latent size divisible by {model.size_multiple}, but data.size "
            f"{experiment.data.size} with autoencoder.patch {experiment.autoencoder.patch} "
            f"gives {side}."
        )
    if experiment.regularizers:
        from gensynth.training.regularization import check_regularizers

        check_regularizers(experiment, model)


def _check_parts(experiment: Experiment) -> None:
    """Objective, model and autoencoder have to work on the same thing."""
    from gensynth.models import MODELS, preset

    objective, codec, wanted = experiment.objective, experiment.autoencoder, ""
    name = experiment.model.name
    works_on = preset(name)[0].works_on
    if works_on != objective.works_on:
        others = [key for key, section in OBJECTIVES.items() if section.works_on == works_on]
        known = [name for name, entry in MODELS.items() if entry[0].works_on == objective.works_on]
        raise UsageError(
            f"objective {objective.name} trains models of {objective.works_on}, and {name} is one "
            f"of {works_on}: take objective {' or '.join(others)}, or one of: {', '.join(known)}."
        )
    if objective.works_on == "pixels":
        if (codec.kind, codec.patch) != ("none", 1):
            wanted = "autoencoder.kind=none and autoencoder.patch=1"
        if experiment.data.source == "encoded":
            wanted = "a data.source of images"
    elif codec.gives != objective.works_on:
        kinds = {"tokens": "vq", "latents": "none or kl"}[objective.works_on]
        wanted = f"autoencoder.kind={kinds}"
    if wanted:
        raise UsageError(
            f"objective {objective.name} trains on {objective.works_on}; set {wanted}."
        )


def _check_contradictions(experiment: Experiment, given: dict[str, Any]) -> None:
    _check_chosen(experiment, given)
    encoded = experiment.data.source == "encoded"
    if experiment.autoencoder.kind == "kl" and experiment.data.channels != 3:
        raise UsageError("autoencoder.kind kl encodes RGB images; set data.channels=3.")
    if encoded and any(term.name == "repa" for term in experiment.regularizers):
        raise UsageError("regularizer repa looks at the images, which data.source encoded has not.")
    if given.get("size_conditioning") and experiment.data.zoom is None:
        raise UsageError(
            "model.size_conditioning has nothing to learn from without crops; set data.zoom, for "
            "instance data.zoom=[1.0,1.5]."
        )
    if experiment.objective.works_on == "tokens" and experiment.sampling.guided_channels:
        raise UsageError(
            "sampling.guided_channels is of latents; tokens are guided whole. Leave it out."
        )
    if not given.get("null_label", True) and experiment.objective.label_dropout > 0:
        raise UsageError(
            "model.null_label=false leaves no label to drop to; set objective.label_dropout=0."
        )
    draws = experiment.objective.works_on != "pixels"  # a tokenizer does not, whatever is set
    if draws and experiment.sampling.guidance > 1 and experiment.objective.label_dropout == 0:
        raise UsageError(
            "sampling.guidance above 1 needs a model that has seen dropped labels; set "
            "objective.label_dropout=0.1 or sampling.guidance=1."
        )


def _check_chosen(experiment: Experiment, given: dict[str, Any]) -> None:
    """What other sections decide about a model may be repeated under `model:`, not contradicted."""
    learns_variance = experiment.objective.learns_variance
    channels = experiment.autoencoder.channels(experiment.data.channels)
    if given.get("learn_sigma", learns_variance) and not learns_variance:
        raise UsageError(
            f"model.learn_sigma must be false with objective {experiment.objective.name}; "
            "leave it out and it is chosen."
        )
    if given.get("in_channels", channels) != channels:
        raise UsageError(
            f"model.in_channels is {given['in_channels']}, but the latents have {channels} "
            "channels; leave it out and it is chosen."
        )
    chosen = {"codebook_size": ("autoencoder", experiment.autoencoder.codebook_size)}
    if experiment.objective.works_on == "pixels":
        chosen = {"channels": ("data", experiment.data.channels)}
    for key, (section, value) in chosen.items():
        if value is not None and given.get(key, value) != value:
            raise UsageError(
                f"model.{key} is {given[key]}, but {section}.{key} is {value}; leave it out and "
                "it is chosen."
            )


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"override {override!r} is not of the form key=value.")
    *parents, last = key.strip().split(".")
    section = tree
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            section[parent] = {}
        section = section[parent]
    section[last] = parse_yaml(text, f"override {override!r}")


def _explain(problem: Any, tree: dict[str, Any]) -> str:
    """One sentence about one problem that pydantic found."""
    # A discriminated union inserts its tag into the location; the user never wrote it.
    location = [str(part) for part in problem["loc"]]
    if location[:1] == ["objective"] and location[1:2] and location[1] in OBJECTIVES:
        del location[1]
    if location[:1] == ["regularizers"] and location[2:3] and location[2] in REGULARIZERS:
        del location[2]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], tree)
        return f"unknown key '{key}'.{_nearest(location[-1], known)} Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"'{key}' is missing."
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        allowed = OBJECTIVES if key == "objective" else REGULARIZERS
        return f"'{key}.name' must be one of {', '.join(allowed)}."
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{message}."
    given = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    return f"'{key}': {message}{given}."


def _known_keys(location: Iterable[str], tree: dict[str, Any]) -> list[str]:
    section: Any = Experiment
    for part in location:
        if part == "objective":
            section = OBJECTIVES.get(tree["objective"].get("name"), Flow)
        elif section is Experiment and part == "regularizers":
            section = tree["regularizers"]
        elif isinstance(section, list):
            section = REGULARIZERS[section[int(part)]["name"]]
        else:
            annotation = section.model_fields[part].annotation
            section = EMA if part == "ema" else annotation
    return list(section.model_fields)


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def _nearest_configs(path: Path) -> str:
    there = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f" In {path.parent}: {', '.join(p.name for p in there)}." if there else ""
