"""Small evaluations while a model trains: lines in a file, a curve, and the best model so far."""

import json
import math
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from gensynth.config import Experiment
from gensynth.data.sources import Source
from gensynth.evaluation.drawn import AtHand
from gensynth.evaluation.report.report import summary
from gensynth.files import read_json_lines, write_text
from gensynth.processes import processes
from gensynth.training.session.faults import StopRequest
from gensynth.training.session.output import replacement
from gensynth.training.watching.log import TrainingLog
from gensynth.training.watching.yardstick import Yardstick

LINES, CURVE, BEST = "evaluations.jsonl", "evaluations.png", "best"
# Lines that agree in these measure the same.
COMPARABLE = ("metric", "num_samples", "extractor_fingerprint", "reference_sha256")


class Evaluations:
    """The evaluations of a run: when they are due, what came out, and the best model.

    Raises:
        InputError, UsageError, RefusedError: as `Yardstick`, if there are to be any.
    """

    def __init__(self, experiment: Experiment, folder: Path, source: Source, stop: StopRequest):
        self.every, self.last = experiment.evaluation.every, experiment.training.steps
        self.batch_size, self.folder = experiment.training.batch_size, folder
        self.yardstick = Yardstick(experiment, source, stop) if self.every else None
        self.entries: list[dict[str, Any]] = []
        self.done: set[int] = set()

    def resume(self, step: int, log: TrainingLog) -> None:
        """Continues the lines of earlier sessions, without those after `step`."""
        path = self.folder / LINES
        self.log = log
        self.entries = [entry for entry in read_json_lines(path) if entry["step"] <= step]
        self.done = {entry["step"] for entry in self.entries}
        if processes().is_main_process and path.exists():
            self._write()

    def due(self, step: int) -> bool:
        """Whether an evaluation belongs to this step and is not there yet."""
        if not self.every or not step or step in self.done:
            return False
        return step % self.every == 0 or step == self.last

    def prepare(self, step: int) -> None:
        """Prepares what a run at `step` will need."""
        if self.yardstick is not None and (step < self.last or self.due(step)):
            self.yardstick.prepare(self.log)

    def evaluate(self, pipeline: Any, step: int, seconds: float, checkpoint: Path) -> None:
        """Measures what a pipeline draws after `step` steps; all processes take part.

        Args:
            seconds: for how long the run has been training.
            checkpoint: of this step.

        Raises:
            Abandoned: the run should stop; nothing was written.
        """
        assert self.yardstick is not None
        # A fingerprint of its own: features of other weights must never be taken for these.
        [fingerprint] = broadcast_object_list([secrets.token_hex(16)])
        model = AtHand(f"step {step}", pipeline, fingerprint)
        score = self.yardstick.measure(model, self.log)
        self.done.add(step)
        if score is None:
            return
        entry = {
            "step": step,
            "images": step * self.batch_size,
            "seconds": round(seconds, 2),
            "metric": score.name,
            "value": score.value,
            "standard_error": score.standard_error,
            "floor": score.floor,
            **self.yardstick.facts(),
        }
        # A number is the best only among those that were measured alike.
        earlier = [e for e in self.entries if all(e.get(key) == entry[key] for key in COMPARABLE)]
        entry["best"] = score.value < min((e["value"] for e in earlier), default=math.inf)
        self._record(entry, earlier, checkpoint)
        words = summary({"headline": score.key, "scores": [asdict(score)]})
        words += ", the best so far" if entry["best"] else ""
        self.log.evaluated(step, score.key, score.value, words)

    def _record(
        self, entry: dict[str, Any], earlier: list[dict[str, Any]], checkpoint: Path
    ) -> None:
        from gensynth.training.watching.curve import plot_evaluations

        if entry["best"]:
            with replacement(self.folder / BEST) as best:
                shutil.copytree(checkpoint / "model", best, dirs_exist_ok=True)
                write_text(best / "evaluation.json", json.dumps(entry, indent=1) + "\n")
        plot_evaluations([*earlier, entry], self.folder / CURVE)
        # Last: a run that was cut off before has no line, and does all of this again.
        self.entries.append(entry)
        self._write()

    def _write(self) -> None:
        lines = [json.dumps(entry) + "\n" for entry in self.entries]
        write_text(self.folder / LINES, "".join(lines))
