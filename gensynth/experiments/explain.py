"""What pydantic found wrong in an experiment, in a sentence."""

from collections.abc import Iterable
from typing import Any

from gensynth.config import (
    DDPM,
    EMA,
    Dispersive,
    Distill,
    Experiment,
    Flow,
    LayerSync,
    Lora,
    Masked,
    Reconstruction,
    Repa,
    Section,
)
from gensynth.errors import nearest
from gensynth.models.known import known as known_model
from gensynth.models.known import model_names

OBJECTIVES: dict[str, Any] = {
    "flow": Flow,
    "ddpm": DDPM,
    "masked": Masked,
    "reconstruction": Reconstruction,
    "distill": Distill,
}
SIMILAR = 0.5  # of a key, how near it has to be to be suggested
VERY_SIMILAR = 0.75  # to be suggested if it stands in another section
# What people call a key.
ALSO = {"learning_rate": "lr", "image_size": "size", "resolution": "size"}
MOST_SHOWN = 100  # characters of a value in a message
OPTIONAL = {"ema": EMA, "lora": Lora}  # their annotations are unions with None
REGULARIZERS = {"dispersive": Dispersive, "layersync": LayerSync, "repa": Repa}


def explain(problem: Any, tree: dict[str, Any]) -> str:
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
        objective, model = (tree.get(part) for part in ("objective", "model"))
        names = [
            part.get("name") if isinstance(part, dict) else None for part in (objective, model)
        ]
        hint = meant(location, known, *names)
        return f"unknown key '{key}'.{hint} Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"'{key}' is missing."
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        allowed = OBJECTIVES if key == "objective" else REGULARIZERS
        return f"'{key}.name' must be one of {', '.join(allowed)}."
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{message}."
    given = "" if isinstance(problem["input"], dict) else f", got {shortened(problem['input'])}"
    return f"'{key}': {message}{given}."


def meant(location: list[str], known: Iterable[str], objective: Any, model: Any) -> str:
    """A question that names the keys that an unknown one may stand for, whole; "" if none is near.

    Args:
        location: the unknown key.
        known: the keys of its section.
        objective, model: names of what the experiment trains, as they were given.
    """
    *section, last = location
    others: dict[str, list[str]] = {}
    for one in _all_keys(objective, model):
        others.setdefault(one.rpartition(".")[2], []).append(one)
    found = others.get(ALSO.get(last, last), [])
    if not found and (near := nearest(last, known, VERY_SIMILAR)):
        found = [".".join([*section, near])]
    if not found and (near := nearest(last, others, VERY_SIMILAR)):
        found = others[near]
    if not found and (near := nearest(last, known, SIMILAR)):
        found = [".".join([*section, near])]
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def _all_keys(objective: Any, model: Any) -> list[str]:
    """The keys of all sections, whole; those of every term of `regularizers` left out."""
    sections: dict[str, Iterable[str]] = {}
    for name, field in Experiment.model_fields.items():
        section = EMA if name == "ema" else field.annotation
        if name == "objective":
            section = OBJECTIVES.get(objective, Flow)
        if isinstance(section, type) and issubclass(section, Section):
            sections[name] = section.model_fields
    if isinstance(model, str) and model.lower() in map(str.lower, model_names()):
        sections["model"] = known_model(model).keywords
    return [f"{name}.{key}" for name, keys in sections.items() for key in keys]


def shortened(value: Any) -> str:
    """A value as it was given, of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


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
            section = OPTIONAL.get(part, annotation)
    return list(section.model_fields)
