"""An experiment from its YAML file, checked before anything loads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gensynth.config import OF_TEACHER, Experiment, parse_yaml
from gensynth.config.shipped import find_config
from gensynth.errors import InputError, UsageError
from gensynth.experiments.check import check_model
from gensynth.experiments.explain import explain, shortened
from gensynth.experiments.names import check_names


def read_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """`load_experiment` as far as nothing heavy has to be imported.

    Raises:
        InputError: the file is not there, or cannot be read.
        UsageError: an unknown key, a wrong value, or a combination that cannot work; the message
            names the file, the key, what is allowed and the nearest known key.
    """
    path = find_config(path)
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file in UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not isinstance(tree, dict):
        raise UsageError(
            f"{path}: expected sections like 'data:' and 'model:', got {shortened(tree)}."
        )
    for override in overrides:
        _apply_override(tree, override)
    objective = tree.get("objective")
    if isinstance(objective, dict) and objective.get("name") == "distill":
        tree.setdefault("model", {"name": OF_TEACHER})
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        origin = f"{path} with {' '.join(overrides)}" if overrides else str(path)
        problems = [explain(problem, tree) for problem in error.errors()]
        raise UsageError(f"{origin}: " + " ".join(problems)) from error
    check_names(experiment)
    return experiment


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a YAML file, or of a name that comes along, with `key=value` overrides.

    Raises:
        InputError: the file is not there, or cannot be read.
        UsageError: an unknown key, a wrong value, or a combination that cannot work; the message
            names the file, the key, what is allowed and the nearest known key.
    """
    experiment = read_experiment(path, overrides)
    check_model(experiment)
    return experiment


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"override {override!r} is not of the form key=value.")
    *parents, last = key.strip().split(".")
    section = tree
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            section[parent] = {}  # a section that the file leaves out
        section = section[parent]
    section[last] = parse_yaml(text, f"override {override!r}")
