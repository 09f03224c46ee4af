"""The output folder of a run: made, claimed and protected from another run's settings."""

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gensynth.config import Experiment, parse_yaml
from gensynth.errors import OutputError, RefusedError
from gensynth.files import json_in, leftovers, temporary_for, write_text
from gensynth.lora.folder import FOLDER as ADAPTER
from gensynth.system.locks import Lock, claim, token_in
from gensynth.training.averages.ema import AVERAGES
from gensynth.training.session.together import Together

EXPERIMENT = "experiment.yaml"
LOCK = ".lock"
PUBLISHED = (AVERAGES, ADAPTER, "model")  # the model last: it means that the run is finished
SHOWS_SECONDS = 30.0  # until a network disk shows the other machines what was written
# What may change between two sessions of one run without making it another run.
MAY_CHANGE = (
    "output",
    "optimizer.lr",
    "optimizer.clip",
    "optimizer.schedule",
    "optimizer.warmup_steps",
    "training.mixed_precision",
    "training.steps",
    "training.log_every",
    "training.gradient_accumulation",
    "training.gradient_checkpointing",
    "training.compile",
    "training.timeout",
    "checkpoint.every",
    "checkpoint.keep",
    "ema.snapshot_every",
    "data.texts",
    "data.workers",
    "data.timeout",
    "data.max_corrupt",
    "sampling.",
    "evaluation.",
)


@contextmanager
def claimed(experiment: Experiment, together: Together) -> Iterator[Path]:
    """The output folder, tidied up and for this launch alone until the block ends.

    Raises:
        RefusedError: another process writes there, or it holds a run with other settings; nothing
            was touched.
        OutputError: it cannot be made or written, or is not one folder for all processes.
    """
    folder = Path(experiment.output)
    locks: list[Lock] = []

    def claim_it() -> str:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            advice = "Wait for its end, stop it, or choose another folder: output=DIR"
            locks.append(claim(folder / LOCK, folder, advice))
        except OSError as error:
            raise _unwritable(folder, error) from error
        prepare(experiment)
        tidy(folder)
        return locks[0].token

    try:
        _check_shared(folder, together.from_main(claim_it), together)
        yield folder
    finally:
        for lock in locks:
            lock.release()


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
        raise _unwritable(folder, error) from error
    different = [words for key, words in _changes(experiment, folder) if not _may_change(key)]
    if different:
        raise RefusedError(
            f"{folder} holds a run with other settings: {'; '.join(different)}. "
            "Use another output=DIR, or the settings of that run to resume it."
        )
    return folder


def tidy(folder: Path) -> None:
    """Removes what killed processes have left half-written in the folder of a run."""
    half = [*leftovers(folder), *folder.glob("*.tmp"), *folder.glob("checkpoints/step-*.tmp")]
    for path in half:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for old in folder.glob("*.old"):  # a crash in the middle of `replacement`
        if old.with_suffix("").exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(old.with_suffix(""))


def record(
    experiment: Experiment, folder: Path, step: int, data_changed: str | None = None
) -> list[str]:
    """Writes the resolved experiment into the folder; returns what changed for a resumed run.

    Comments at the top of the file keep every change and the step at which it was made, and how
    the data changed.
    """
    path, changes, notes = folder / EXPERIMENT, list[str](), list[str]()
    if step:
        changes = [words for key, words in _changes(experiment, folder) if key != "output"]
        earlier = (
            path.read_text(encoding="utf-8", errors="replace").splitlines()
            if path.is_file()
            else []
        )
        notes = [line for line in earlier if line.startswith("# after step ")]
        changes += [data_changed] if data_changed else []
        notes += [f"# after step {step}: {words}" for words in changes]
    write_text(path, "".join(f"{note}\n" for note in notes) + experiment.to_yaml())
    return changes


def _may_change(key: str) -> bool:
    return key.startswith(MAY_CHANGE)


def _changes(experiment: Experiment, folder: Path) -> list[tuple[str, str]]:
    """The keys in which a run that has checkpoints differs from the experiment, and in words how.

    Raises:
        RefusedError: fp16 now and not before.
    """
    earlier = folder / EXPERIMENT
    if not earlier.is_file() or not any(folder.glob("checkpoints/step-????????")):
        return []
    text = parse_yaml(earlier.read_text(encoding="utf-8", errors="replace"), str(earlier))
    if text is None:  # cut off in the middle of a crash
        return []
    before = _flat(_with_defaults(text))
    now = _flat(parse_yaml(experiment.to_yaml(), "this experiment"))
    different = [
        key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)
    ]
    if "training.mixed_precision" in different and now["training.mixed_precision"] == "fp16":
        raise RefusedError(
            f"{folder} holds a run without fp16, whose checkpoints lack the scale of its "
            "gradients. Resume it with training.mixed_precision=bf16 or no, or use another "
            "output=DIR."
        )
    return [(key, f"{key} was {before.get(key)!r}, now {now.get(key)!r}") for key in different]


def _check_shared(folder: Path, token: str, together: Together) -> None:
    """Whether every process sees the folder that the main one has claimed."""
    found, deadline = together.is_main, time.monotonic() + SHOWS_SECONDS
    while not found and time.monotonic() < deadline:
        found = token_in(folder / LOCK) == token
        time.sleep(0.0 if found else 0.1)
    seen = together.gather((socket.gethostname(), found))
    for rank, (host, there) in enumerate(seen):
        if not there:
            raise OutputError(
                f"the output folder {folder.absolute()} of process 0 on {seen[0][0]} is not that "
                f"of process {rank} on {host}. Put it on a disk that all processes share, and name "
                "it by its full path: output=/DISK/DIR"
            )


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write to the output folder {folder}: {error.strerror}. Choose another: output=DIR"
    )


def recorded_classes(folder: Path) -> list[str] | None:
    """The class names with which the run in a folder began; None for a new one."""
    for names in sorted(folder.glob("checkpoints/step-????????/model/labels.json"), reverse=True):
        found = json_in(names)
        if isinstance(found, list):  # not of a damaged one, which will be passed over with a word
            return found
    return None


def withdraw(folder: Path) -> None:
    """Removes what an earlier, shorter run published.

    Until this one ends its checkpoints stand for it.
    """
    for part in reversed(PUBLISHED):
        shutil.rmtree(folder / part, ignore_errors=True)


def publish(checkpoint: Path, folder: Path) -> None:
    """Puts copies of what is published of a checkpoint in place of older ones."""
    for part in PUBLISHED:
        if (checkpoint / part).is_dir():
            with replacement(folder / part) as temporary:
                shutil.copytree(checkpoint / part, temporary, dirs_exist_ok=True)


@contextmanager
def replacement(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` when the block ends.

    Until then, and after an error in the block, the old one is there. A crash in the middle of the
    exchange leaves it as `folder.old`.
    """
    temporary = temporary_for(folder)
    old = folder.with_name(f"{folder.name}.old")
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
