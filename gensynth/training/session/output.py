"""The output folder of a run: made, claimed and protected from another run's settings."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gensynth.config import Experiment, parse_yaml
from gensynth.errors import OutputError, RefusedError
from gensynth.files import write_text

EXPERIMENT = "experiment.yaml"
# What may change between two sessions of one run without making it another run.
MAY_CHANGE = (
    "output",
    "training.steps",
    "training.log_every",
    "training.gradient_accumulation",
    "training.gradient_checkpointing",
    "training.compile",
    "checkpoint.every",
    "checkpoint.keep",
    "ema.snapshot_every",
    "data.workers",
    "data.max_corrupt",
    "sampling.",
    "evaluation.",
)


def prepare(experiment: Experiment) -> Path:
    """The output folder, made if need be.

    Raises:
        OutputError: it cannot be made or written.
        RefusedError: it holds a run with other settings.
    """
    folder = Path(experiment.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A write, not a look at permissions, which network folders need not keep to.
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to the output folder {folder}: {error.strerror}. "
            "Choose another: output=DIR"
        ) from error
    earlier = folder / EXPERIMENT
    if earlier.is_file() and any(folder.glob("checkpoints/step-????????")):
        text = parse_yaml(earlier.read_text(encoding="utf-8"), str(earlier))
        if text is None:  # cut off in the middle of a crash
            return folder
        before = _flat(_with_defaults(text))
        now = _flat(parse_yaml(experiment.to_yaml(), "this experiment"))
        different = [
            f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
        ]
        if different:
            raise RefusedError(
                f"{folder} holds a run with other settings: {'; '.join(different)}. "
                "Use another output=DIR, or the settings of that run to resume it."
            )
    return folder


def record(experiment: Experiment, folder: Path) -> None:
    """Writes the resolved experiment into the folder."""
    write_text(folder / EXPERIMENT, experiment.to_yaml())


def recorded_classes(folder: Path) -> list[str] | None:
    """The class names with which the run in a folder began; None for a new one."""
    for names in sorted(folder.glob("checkpoints/step-????????/model/labels.json"), reverse=True):
        try:
            found = json.loads(names.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # a damaged checkpoint, which will be passed over with a word
        if isinstance(found, list):
            return found
    return None


@contextmanager
def replacement(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` when the block ends.

    Until then, and after an error in the block, the old one is there. A crash in the middle of the
    exchange leaves it as `folder.old`.
    """
    temporary, old = (folder.with_name(f"{folder.name}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        # Two renames, because a folder cannot be replaced by one while it holds something.
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _with_defaults(tree: Any) -> Any:
    """An earlier run's settings with the keys that did not exist when it was begun."""
    try:
        return Experiment.model_validate(tree).model_dump(mode="json")
    except ValidationError:  # a key that no longer exists: compared as it stands
        return tree


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}."))
    return flat
