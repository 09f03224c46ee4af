"""Snapshots of power-function averages: `RUN/snapshots/step-00005000-std-0.050.safetensors`.

They outlive the checkpoints: from all of them together `training.averages.export` makes averages of
any length. Each is whole or absent, and carries the hash of its tensors.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gensynth.errors import CorruptError, OutputError
from gensynth.files import temporary_for

FOLDER = "snapshots"
FACTS = "snapshot"  # key of the metadata
# In float16, as EDM2 published its own, rounding is amplified where large terms cancel: with 40
# snapshots of each of two widths it moves a reconstruction by 2e-4 of its norm at std 0.08 and by
# 5e-3 at 0.015, half as far as that is from std 0.05. In float32 all errors are 2e-7 and 3e-5.
DTYPE = torch.float32
_NAME = re.compile(r"step-(\d{8})-std-(\d\.\d{3})\.safetensors")


class Snapshot(NamedTuple):
    step: int
    std: float
    path: Path


def list_snapshots(run: Path) -> list[Snapshot]:
    """The snapshots of a run, oldest first and shortest average first."""
    found = [(_NAME.fullmatch(path.name), path) for path in (run / FOLDER).glob("step-*")]
    return sorted(Snapshot(int(m[1]), float(m[2]), path) for m, path in found if m)


def drop_later(run: Path, step: int) -> None:
    """Deletes snapshots of steps that a run resumed at `step` will take again."""
    for abandoned in (run / FOLDER).glob(".step-*.tmp"):
        abandoned.unlink()
    for snapshot in list_snapshots(run):
        if snapshot.step > step:
            snapshot.path.unlink()


def write_snapshot(
    run: Path, step: int, name: str, tensors: dict[str, Tensor], num_updates: int
) -> None:
    """Keeps one average, after `num_updates` updates, under the step and its own name.

    Raises:
        OutputError: the disk is full or not writable.
    """
    path = run / FOLDER / f"step-{step:08d}-{name}.safetensors"
    temporary = temporary_for(path)
    stored = {key: tensor.detach().to("cpu", DTYPE).contiguous() for key, tensor in tensors.items()}
    # One entry: safetensors writes several in any order, and equal runs should give equal files.
    metadata = {FACTS: json.dumps({"updates": num_updates, "sha256": _digest(stored)})}
    try:
        path.parent.mkdir(exist_ok=True)
        save_file(stored, temporary, metadata)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)  # only now: a snapshot under its name is whole
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write the snapshot {path}: {error}. Free some space and run the same command "
            "to resume."
        ) from error


def num_updates(snapshot: Snapshot) -> int:
    """After how many updates a snapshot was taken; less than its step if fp16 skipped some.

    Raises:
        CorruptError: the file is damaged.
    """
    try:
        with safe_open(snapshot.path, "pt") as file:
            return int(json.loads(file.metadata()[FACTS])["updates"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(snapshot.path) from error


def read_snapshot(snapshot: Snapshot) -> dict[str, Tensor]:
    """The tensors of a snapshot, checked against their hash.

    Raises:
        CorruptError: the file is damaged.
    """
    try:
        with safe_open(snapshot.path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            intact = json.loads(file.metadata()[FACTS])["sha256"] == _digest(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(snapshot.path) from error
    if not intact:
        raise _damaged(snapshot.path)
    return tensors


def _damaged(path: Path) -> CorruptError:
    return CorruptError(
        f"the snapshot {path} is damaged. Restore it from a backup, or delete it to reconstruct "
        "from the others."
    )


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    # over the names too: tensors that were swapped are another average
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
