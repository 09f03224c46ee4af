"""A DiCo of at most 40 MB on CIFAR-10 and on 45 classes at 64x64, 15 minutes of training each.

A run (configs/*/showcase.yaml) goes on over several commands: near the end of its minutes a command
asks it to stop, which saves its state. Its number of steps is measured once, by a short run. Then
the width of the average is chosen by the distance of 2,000 pictures, sampler and guidance by that
of 5,000, and the model is exported in bfloat16 and measured with 10,000.

On a GPU the models draw in bfloat16, in which they are exported, so that every distance is of the
weights as they are shipped. The last 10,000 pictures have seeds of their own: what was chosen by a
distance scores a little too well with the same ones.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gensynth.config import Experiment
from gensynth.data.sources import open_source
from gensynth.errors import UsageError
from gensynth.pipelines.loading import load
from gensynth.samplers.registry import create_scheduler
from gensynth.settings import Settings
from gensynth.training.averages.export import export_std, open_averages
from gensynth_benchmarks.gpu_steps.common import Bench, fresh_memory
from gensynth_benchmarks.gpu_steps.training_runs import (
    CIFAR10,
    SAVING_SECONDS,
    TINY_IMAGENET,
    Dataset,
    distance,
    drawing,
    experiment,
    facts,
    plan,
    train_until,
    write_grid,
)
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import Table, number

TRAIN_SECONDS = 900.0
LEAST_SECONDS = 90.0  # beside the saving: in less, compiling would be all there is
SNAPSHOTS = 48
MOST_MEGABYTES = 40.0
STDS = (0.05, 0.1, 0.15)
# Sampler -> scheduler, none for the model's own, and steps: the model is asked 50 times by each.
SAMPLERS: dict[str, tuple[str | None, int]] = {
    "Euler, 50 steps": (None, 50),
    "Heun, 25 steps": ("FlowODEScheduler", 25),
}
SWEPT = (
    ("Euler, 50 steps", 1.5),
    ("Heun, 25 steps", 1.5),
    ("Euler, 50 steps", 1.0),
    ("Euler, 50 steps", 2.0),
)
# Part of a data set's work -> pictures, and seconds that it may take.
PICTURES = {"average": (2_000, 60.0), "sampler": (5_000, 90.0), "final": (10_000, 150.0)}
FINAL_SEED = 1_000_000
NANO = "{name: DiCo-nano, hidden_size: 16, depth: [1, 1, 1, 1, 1]}"


@dataclass(frozen=True)
class Show:
    """One model: the data, and the experiment in configs/."""

    data: Dataset
    config: str


SHOWS = (
    Show(CIFAR10, "cifar10/showcase.yaml"),
    Show(TINY_IMAGENET, "tiny_imagenet/showcase.yaml"),
)


def run(bench: Bench) -> None:
    """One data set to its end, then the next."""
    for show in SHOWS:
        if not Work(bench, show).done():
            return


class Work:
    """What there is to do for one model, in order; each part is done once."""

    def __init__(self, bench: Bench, show: Show):
        self.bench, self.show, self.name = bench, show, show.data.name
        self.folder = bench.work / "showcase" / self.name
        self.key: Row = {}

    def done(self) -> bool:
        """Does what time is left for; whether that is all."""
        if (self.bench.ledger.find(dataset=self.name, part="final") or {}).get("megabytes"):
            return True
        finished = self.train()
        if finished is None:
            self.bench.ledger.left.append(f"the training on {self.name}")
            return False
        # Rows of this run only: an earlier one's weights may be gone with the machine.
        for std in STDS[:2] if self.bench.miniature else STDS:
            if not self.measure("average", partial(self.average, finished, std), std=std):
                return False
        best = self.best("average")
        for sampler, guidance in SWEPT:
            work = partial(self.sampled, finished, best["std"], sampler, guidance)
            if not self.measure("sampler", work, sampler=sampler, guidance=guidance):
                return False
        return self.measure("final", partial(self.final, finished, best, self.best("sampler")))

    def train(self) -> Path | None:
        """The finished run, which has a row; none if there is no time to finish it."""
        left = self.bench.ledger.seconds_left
        if not self.bench.miniature and left < SAVING_SECONDS + LEAST_SECONDS:
            return None
        fresh_memory(self.bench.device)
        planned = plan(self.folder, self.recipe, TRAIN_SECONDS, self.bench.miniature)
        self.key = {"dataset": self.name, "run": planned["run"]}
        whole = self.recipe(
            f"output='{self.folder / 'run'}'",
            f"training.steps={planned['steps']}",
            f"ema.snapshot_every={max(1, planned['steps'] // SNAPSHOTS)}",
        )
        finished = train_until(whole, self.bench.ledger.seconds_left)
        if finished is not None:
            images = len(open_source(whole.data).rows)
            self.measure("training", lambda: facts(finished, whole, images))
        return finished

    def recipe(self, *overrides: str) -> Experiment:
        tiny = [f"model={NANO}"] if self.bench.miniature else []
        given = [*tiny, "checkpoint.every=1000000", *overrides]
        return experiment(self.bench, self.show.data, self.show.config, *given)

    def measure(self, part: str, work: Any, **key: Any) -> bool:
        """Whether there is a row now."""
        needs = 0.0 if self.bench.miniature else PICTURES.get(part, (0, 0.0))[1]
        return self.bench.ledger.measure(work, needs, part=part, **self.key, **key) is not None

    def best(self, part: str) -> Row:
        """The row of this run with the least distance.

        Raises:
            UsageError: every row of the part failed.
        """
        found = [row for row in self.rows(part) if "distance" in row]
        if not found:
            raise UsageError(f"nothing to choose from: each {part} of {self.name} failed; --retry.")
        return min(found, key=lambda row: row["distance"])

    def rows(self, part: str) -> Iterator[Row]:
        wanted = {"part": part, **self.key}
        return (row for row in self.bench.ledger.rows if wanted.items() <= row.items())

    def averaged(self, finished: Path, std: float) -> Path:
        """The folder of the model with the average of a width."""
        folder = self.folder / f"std_{std:.3f}"
        if not folder.is_dir():
            export_std(open_averages(finished), std, None, folder)
        return folder

    def average(self, finished: Path, std: float) -> Row:
        pipeline = drawing(self.bench, self.averaged(finished, std))
        return distance(self.bench, self.show.data, pipeline, PICTURES["average"][0])

    def sampled(self, finished: Path, std: float, sampler: str, guidance: float) -> Row:
        scheduler, steps = SAMPLERS[sampler]
        settings = Settings(scheduler=scheduler, steps=steps, guidance=guidance)
        pipeline = drawing(self.bench, self.averaged(finished, std))
        return distance(self.bench, self.show.data, pipeline, PICTURES["sampler"][0], settings)

    def final(self, finished: Path, average: Row, sampler: Row) -> Row:
        """Exports the model as it draws best, and measures what was exported."""
        folder = self.bench.work / f"showcase_{self.name}"
        chosen = {"sampler": sampler["sampler"], "guidance": sampler["guidance"]}
        parameters = export(self.averaged(finished, average["std"]), folder, **chosen)
        pipeline = drawing(self.bench, folder)
        return {
            "parameters": parameters,
            "megabytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6,
            "std": average["std"],
            **chosen,
            **distance(self.bench, self.show.data, pipeline, PICTURES["final"][0], seed=FINAL_SEED),
            "grid": write_grid(self.bench, pipeline, f"showcase_{self.name}.png"),
        }


def export(source: Path, folder: Path, sampler: str, guidance: float) -> int:
    """Writes a model in bfloat16 with a sampler and guidance of its own; its parameters."""
    pipeline = load(source, "cpu")
    scheduler, steps = SAMPLERS[sampler]
    if scheduler is not None:
        config = pipeline.config
        fitting = create_scheduler(scheduler, config.prediction, path=config.path)
        pipeline.register_modules(scheduler=fitting)
    pipeline.register_to_config(steps=steps, guidance=guidance)
    pipeline.model.to(torch.bfloat16)
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(folder)
    return sum(parameter.numel() for parameter in pipeline.model.parameters())


def newest(rows: Sequence[Row], part: str) -> list[Row]:
    """The rows of a part that belong to the newest run of their data set."""
    runs = {row["dataset"]: row["run"] for row in rows}
    return [row for row in rows if row["part"] == part and runs[row["dataset"]] == row["run"]]


def scored(row: Row) -> list[str]:
    """The cells of what was measured: distance, floor, pictures, what they were computed in."""
    if "distance" not in row:
        return [row["failed"], "", "", ""]
    value = f"{row['distance']:.2f} ± {row['standard_error'] or 0.0:.2f}"
    return [value, number(row["floor"]), number(row["samples"], 0), row["computed_in"]]


def tables(rows: Sequence[Row], about: Row) -> list[Table]:
    """The models, and what was chosen from."""
    ending = ["FD(lite0-64)", "real images", "pictures", "computed in"]
    trained = [
        [
            row["dataset"],
            *(number(row.get(name), 0) for name in ("steps", "epochs")),
            number(row.get("images_per_second"), 0),
            number(row.get("seconds"), 0),
            number(row.get("loss"), 4),
        ]
        for row in newest(rows, "training")
    ]
    final = [
        [
            row["dataset"],
            row.get("sampler", ""),
            number(row.get("parameters", 0) / 1e6, 1),
            number(row.get("megabytes"), 1),
            number(row.get("std"), 3),
            number(row.get("guidance")),
            *scored(row),
        ]
        for row in newest(rows, "final")
    ]
    widths = [[r["dataset"], number(r["std"], 3), *scored(r)] for r in newest(rows, "average")]
    samplers = [
        [row["dataset"], row["sampler"], number(row["guidance"]), *scored(row)]
        for row in newest(rows, "sampler")
    ]
    sizes = ["model of", "sampler", "M parameters", "MB", "width of average", "guidance"]
    columns = ["model of", "steps", "epochs", "images/s", "seconds", "loss"]
    return [
        Table("Exported in bfloat16", [*sizes, *ending], final, names=2),
        Table("Training", columns, trained),
        Table("Width of the average", ["model of", "width", *ending], widths),
        Table("Sampler and guidance", [*("model of", "sampler", "guidance"), *ending], samplers, 2),
    ]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Whether the models are small enough to come with the package."""
    lines = []
    for show in SHOWS:
        name = show.data.name
        final = [row for row in newest(rows, "final") if row["dataset"] == name]
        size = final[-1].get("megabytes") if final else None
        what, most = f"megabytes of the model of {name}", f"target at most {MOST_MEGABYTES:.0f}"
        if size is None:
            lines.append(f"{what}: not measured; {most}")
        else:
            met = "met" if size <= MOST_MEGABYTES else "MISSED"
            lines.append(f"{what}: {size:.1f}, {most}, {met}")
    return lines
