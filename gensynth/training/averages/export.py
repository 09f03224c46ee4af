"""One of a run's averages, tracked or reconstructed, as a pipeline folder of its own."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gensynth.config import EMA, STD_RANGE, Experiment, parse_yaml
from gensynth.errors import CorruptError, InputError, OutputError, RefusedError, UsageError
from gensynth.files import new_folder
from gensynth.preflight.runs import check_run
from gensynth.stored import read_json
from gensynth.training.averages.ema import AVERAGES, MODEL_FILE, decay_name, std_name
from gensynth.training.averages.posthoc import coefficients, profile_error
from gensynth.training.averages.snapshots import (
    Snapshot,
    list_snapshots,
    num_updates,
    read_snapshot,
)
from gensynth.training.session.checkpoint import Checkpoints, problem_with
from gensynth.training.session.output import EXPERIMENT

RECORD = "average.json"  # in the exported folder: what it was made of
# Largest relative error of a profile that is still called a reconstruction. The snapshots that
# EDM2's authors publish as sufficient, 64 pairs, reach 6 % at std 0.010.
LARGEST_ERROR = 0.1


@dataclass(frozen=True)
class Averages:
    """What the folder of a run holds: its newest tracked averages and its snapshots."""

    run: Path
    config: EMA | None
    home: Path  # the run if it is finished, or else its newest valid checkpoint
    step: int  # of `home`
    snapshots: list[Snapshot]

    def until(self, step: int | None) -> list[Snapshot]:
        """The snapshots that an average at `step` (the newest one by default) is made from.

        Raises:
            InputError: there are no snapshots, or none of that step.
        """
        if not self.snapshots:
            raise InputError(f"{self.run} has no snapshots. {_why_no_snapshots(self.config)}")
        steps = sorted({snapshot.step for snapshot in self.snapshots})
        step = steps[-1] if step is None else step
        if step not in steps:
            nearest = min(steps, key=lambda other: abs(other - step))
            raise InputError(
                f"{self.run} has no snapshot of step {step}: there are {len(steps)} from "
                f"{steps[0]} to {steps[-1]}, the nearest is {nearest}."
            )
        return [snapshot for snapshot in self.snapshots if snapshot.step <= step]


@dataclass(frozen=True)
class Exported:
    folder: Path
    step: int
    error: float | None = None  # relative L2 error of the profile, of reconstructions
    used: int = 0  # snapshots


def open_averages(run: Path) -> Averages:
    """The averages of a run, finished or not.

    Raises:
        InputError: the folder is not a run, or has no checkpoint yet.
        CorruptError: its experiment or every checkpoint is damaged.
    """
    check_run(run)
    try:
        tree = parse_yaml((run / EXPERIMENT).read_text(encoding="utf-8"), str(run / EXPERIMENT))
        config = Experiment.model_validate(tree).ema
    except (ValidationError, UsageError, UnicodeDecodeError) as error:
        raise CorruptError(f"{run / EXPERIMENT} is not an experiment: {error}") from error
    snapshots = list_snapshots(run)
    if (run / MODEL_FILE).is_file():
        return Averages(run, config, run, _finished_step(run / "status.json"), snapshots)
    problems = []
    for checkpoint in reversed(Checkpoints(run / "checkpoints", keep=2).all()):
        problem = problem_with(checkpoint)
        if problem is None:
            return Averages(run, config, checkpoint, _step_of(checkpoint), snapshots)
        problems.append(f"{checkpoint.name} ({problem})")
    if problems:
        raise CorruptError(f"every checkpoint of {run} is damaged: {', '.join(problems)}.")
    raise InputError(f"{run} has no checkpoint yet; its averages are saved with the first one.")


def export_decay(averages: Averages, decay: float, step: int | None, out: Path | None) -> Exported:
    """Writes the average of one decay rate, of the newest step or of another checkpoint's.

    Raises:
        InputError: the run keeps no such average, or no checkpoint of that step.
        CorruptError, OutputError, RefusedError: see `_write`.
    """
    run, config = averages.run, averages.config
    kept = config.decays if config else []
    if decay not in kept:
        there = ", ".join(map(str, kept)) or "none"
        raise InputError(f"{run} keeps no average of decay {decay}. Decays there: {there}.")
    home, name = averages.home, decay_name(decay)
    if step is not None and step != averages.step:
        home = _checkpoint(run, step)
    # The first average is the model that the checkpoint holds; nothing has to be replaced.
    weights = None if decay == kept[0] else _read(home / AVERAGES / f"{name}.safetensors")
    step = averages.step if step is None else step
    folder = _write(averages, home, weights, step, name, out, {"decay": decay})
    return Exported(folder, step)


def export_std(averages: Averages, std: float, step: int | None, out: Path | None) -> Exported:
    """Reconstructs the power-function average of width `std` at a snapshot's step and writes it.

    Raises:
        UsageError: `std` is outside of what the snapshots can give.
        InputError: there are no snapshots, or none of that step.
        CorruptError, OutputError, RefusedError: see `_write`.
    """
    _check_std(std)
    used = averages.until(step)
    times = np.array([num_updates(snapshot) for snapshot in used])
    stds = np.array([snapshot.std for snapshot in used])
    shares = coefficients(times, stds, times[-1], std)
    error = float(profile_error(times, stds, times[-1], std, shares)[0])
    if error > LARGEST_ERROR:
        raise UsageError(
            f"--std {std}: {len(used)} snapshots miss this average by {error:.0%}. Within "
            f"{LARGEST_ERROR:.0%} they give {reachable(times, stds)}; more of them "
            "(ema.snapshot_every) give more."
        )
    weights = _combine(used, shares[:, 0].tolist())
    record = {
        "std": std,
        "profile_error": error,
        "coefficients": {s.path.name: c for s, c in zip(used, shares[:, 0], strict=True)},
    }
    newest, name = used[-1].step, std_name(std)
    folder = _write(averages, averages.home, weights, newest, name, out, record)
    return Exported(folder, newest, error, len(used))


def reachable(times: ArrayLike, stds: ArrayLike) -> str:
    """Which widths snapshots reconstruct well at the newest time, as "0.021 to 0.250"."""
    times = np.asarray(times)
    low, high = (round(1000 * bound) for bound in STD_RANGE)
    wanted = np.arange(low, high + 1) / 1000
    shares = coefficients(times, stds, times[-1], wanted)
    good = wanted[profile_error(times, stds, times[-1], wanted, shares) <= LARGEST_ERROR]
    # a gap of more than one step of 0.001 begins another interval
    parts = np.split(good, np.flatnonzero(np.diff(good) > 0.0015) + 1)
    return ", ".join(f"{part[0]:.3f} to {part[-1]:.3f}" for part in parts)


def _check_std(std: float) -> None:
    low, high = STD_RANGE
    if not low <= std <= high or float(f"{std:.3f}") != std:
        raise UsageError(
            f"--std must be a multiple of 0.001 from {low} to {high} "
            f"(a share of the run's length so far), got {std}."
        )


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _finished_step(status: Path) -> int:
    content = read_json(status)
    step = content.get("step") if isinstance(content, dict) else None
    if not isinstance(step, int):
        raise CorruptError(f"{status} does not say which step the run ended at.")
    return step


def _checkpoint(run: Path, step: int) -> Path:
    there = Checkpoints(run / "checkpoints", keep=2).all()
    for checkpoint in there:
        if _step_of(checkpoint) == step:
            problem = problem_with(checkpoint)
            if problem:
                raise CorruptError(f"the checkpoint {checkpoint} is damaged: {problem}.")
            return checkpoint
    steps = ", ".join(str(_step_of(checkpoint)) for checkpoint in there) or "none"
    raise InputError(f"{run} has no checkpoint of step {step}. Steps there: {steps}.")


def _why_no_snapshots(config: EMA | None) -> str:
    if config and config.stds:
        return "The first ones are written after ema.snapshot_every (or checkpoint.every) steps."
    return "Runs with ema.stds, for instance [0.05, 0.10], keep them."


def _combine(used: list[Snapshot], shares: list[float]) -> dict[str, Tensor]:
    """The weighted sum of snapshots, one of them in memory at a time."""
    sums: dict[str, Tensor] = {}
    for snapshot, share in zip(used, shares, strict=True):
        for name, tensor in read_snapshot(snapshot).items():
            total = sums.setdefault(name, torch.zeros_like(tensor))
            if total.shape != tensor.shape:
                raise CorruptError(f"{snapshot.path} is of another model: {name} differs in shape.")
            total.add_(tensor, alpha=share)
    return sums


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{path} cannot be read: {error}.") from error


def _write(
    averages: Averages,
    home: Path,
    weights: dict[str, Tensor] | None,
    step: int,
    name: str,
    out: Path | None,
    record: dict[str, Any],
) -> Path:
    """Copies the pipeline of `home` with other weights; whole or absent.

    Raises:
        RefusedError: `out` is not empty.
        CorruptError: the weights do not fit the pipeline's model, or a file is damaged.
        OutputError: the disk is full or not writable.
    """
    folder = out or averages.run / "ema" / f"step-{step:08d}-{name}"
    if out and out.exists() and (out.is_file() or any(out.iterdir())):
        raise RefusedError(f"{out} exists and is not an empty folder; choose another --out.")
    try:
        with new_folder(folder) as temporary:
            shutil.copytree(home / MODEL_FILE.parts[0], temporary, dirs_exist_ok=True)
            if weights is not None:
                _replace_weights(temporary / MODEL_FILE.relative_to("model"), weights)
            facts = {"run": averages.run.name, "step": step, **record}
            (temporary / RECORD).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {folder}: {error}.") from error
    return folder


def _replace_weights(file: Path, weights: dict[str, Tensor]) -> None:
    """Puts averaged parameters over those in a model file; what is not averaged stays."""
    whole = _read(file)
    for name, tensor in weights.items():
        if name not in whole or whole[name].shape != tensor.shape:
            raise CorruptError(f"the average is not of the model in {file.parent}: see {name}.")
    save_file({**whole, **weights}, file, {"format": "pt"})
