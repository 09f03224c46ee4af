"""How a row is measured: a teacher, and students of it before and after they have learnt."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gensynth.config import Experiment
from gensynth.data.files.image_set import open_images
from gensynth.errors import UsageError
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.experiments.read import load_experiment
from gensynth.files import read_json_lines
from gensynth.linearize.swap import linearize
from gensynth.pipelines.loading import load
from gensynth_benchmarks.gpu_steps.training_runs import facts, train_until
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.measuring import ROOT
from gensynth_benchmarks.text_runs.pictures import shown, strip
from gensynth_benchmarks.text_runs.recipes import TRAINED, Trial
from gensynth_benchmarks.text_runs.rows import (
    DRAWN_TOGETHER,
    LEAST_SECONDS,
    STOPPED,
    encode_once,
    held_out,
    scores,
)

TEACHER, BEFORE, AFTER = "teacher", "before", "after"
CONFIGS = {"linfusion": "emoji_linfusion", "clear": "emoji_clear"}
SOFTMAX = "dit-softmax"  # its row in the table of texts
PARTS = ("data", "output", "attention")  # of the loss


@dataclass(frozen=True)
class Students:
    """The runs of one teacher.

    Attributes:
        trial: the table of texts, whose row of softmax attention the teacher is.
        steps: of distilling; None for those of the recipes.
    """

    trial: Trial
    fingerprint: str
    steps: int | None = None

    @property
    def teacher(self) -> Path:
        """The folder of the teacher's run.

        Raises:
            UsageError: it is not trained yet.
        """
        recipe = self.trial.recipe(SOFTMAX, self.fingerprint)
        folder = self.trial.work / f"{SOFTMAX}-{recipe}"
        if not (folder / "model").is_dir():
            raise UsageError(
                f"the teacher {folder} is not trained yet; do so first: python benchmarks/text.py "
                f"--rows {SOFTMAX}"
            )
        return folder

    @property
    def latents(self) -> Path:
        return self.trial.work / f"latents-{self.fingerprint}"

    def experiment(self, method: str) -> Experiment:
        """The distillation of a student."""
        given = [
            f"objective.teacher={json.dumps(str(self.teacher))}",
            "data.source=encoded",
            f"data.path={json.dumps(str(self.latents))}",
            f"output={json.dumps(str(self.trial.work / f'distill-{method}-{self.fingerprint}'))}",
        ]
        if self.steps is not None:
            given.append(f"training.steps={self.steps}")
        if self.trial.miniature:
            given += ["training.batch_size=4", "training.log_every=1", "checkpoint.every=2"]
        return load_experiment(ROOT / "configs" / "linearize" / f"{CONFIGS[method]}.yaml", given)


def measure(students: Students, name: str, ledger: Ledger) -> Row | None:
    """The row of the teacher, or of "METHOD before" or "METHOD after"; from the ledger if there."""
    needs = 0.0 if students.trial.miniature else LEAST_SECONDS
    return ledger.measure(partial(row, students, name, ledger), needs, row=name)


def row(students: Students, name: str, ledger: Ledger) -> Row:
    method, _, when = name.partition(" ")
    found: Row = {}
    if name == TEACHER:
        pipeline = load(students.teacher)
    else:
        whole = students.experiment(method)
        section: Any = whole.objective
        if when == BEFORE:
            pipeline = load(students.teacher)
            linearize(pipeline, section.method, section.weights, **section.options)
        else:
            encode_once(students.trial, students.latents)
            if train_until(whole, ledger.seconds_left) is None:
                return {"failed": STOPPED}
            run = Path(whole.output)
            images = open_images(str(students.trial.data / TRAINED)).length
            pipeline = load(run)
            found = {**facts(run, whole, images), "parts": curves(run)}
    _, captions = held_out(students.trial)
    model = AtHand(name, pipeline, secrets.token_hex(16))
    prompts = [captions[index] for index in shown(len(captions))]
    pictures = pipeline.draw(prompts, range(len(prompts)))
    strip(pictures).save(ledger.path.parent / picture(name))
    drawn = DrawnImages(model, len(captions), batch_size=DRAWN_TOGETHER, prompts=captions)
    return {**found, **scores(drawn, students.trial)}


def curves(run: Path) -> Mapping[str, list[list[float]]]:
    """The parts of the loss over the steps."""
    entries = [entry for entry in read_json_lines(run / "log.jsonl") if "loss" in entry]
    return {part: [[entry["step"], entry[part]] for entry in entries] for part in PARTS}


def picture(name: str) -> str:
    """The file with what a row draws for the prompts that are shown."""
    return f"distill_{name.replace(' ', '_')}.png"
