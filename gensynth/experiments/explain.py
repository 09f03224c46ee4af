"""What pydantic found wrong in an experiment, in a sentence."""

from collections.abc import Iterable
from typing import Any

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
)
from gensynth.errors import nearest

OBJECTIVES: dict[str, Any] = {
    "flow": Flow,
    "ddpm": DDPM,
    "masked": Masked,
    "reconstruction": Reconstruction,
}
SIMILAR = 0.5  # of a key, how near it has to be to be suggested
MOST_SHOWN = 100  # characters of a value in a message
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
        near = nearest(location[-1], known, SIMILAR)
        hint = f" Did you mean {'.'.join([*location[:-1], near])!r}?" if near else ""
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
            section = EMA if part == "ema" else annotation  # its annotation is a union with None
    return list(section.model_fields)
