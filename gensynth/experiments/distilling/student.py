"""A teacher and its student: copied, linearized, and what of the student is trained."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gensynth.config import Distill, Experiment
from gensynth.errors import UsageError
from gensynth.experiments.beginning.patterns import chosen
from gensynth.experiments.distilling.teacher import objective_of, open_teacher
from gensynth.files import write_text
from gensynth.linearize import save
from gensynth.linearize.contract import Linearized
from gensynth.linearize.saving import own_weights
from gensynth.linearize.swap import METHODS, linearize
from gensynth.lora.mark import mark_of
from gensynth.objectives import Objective
from gensynth.objectives.distill import DistillObjective
from gensynth.pipelines.pretrained.linear import save_linearized
from gensynth.pipelines.pretrained.network import CALLS, Network
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
OF_TEACHER = "teacher.json"  # in a checkpoint


@dataclass
class Distillation:
    """What a run distils.

    Attributes:
        pipeline: draws with the student.
        student: what is trained, called as a backbone.
        teacher: what it was, frozen.
        trained: names of the student's weights that are.
        mark: of the teacher's weights.
        done: what was replaced.
    """

    section: Distill
    pipeline: Any
    student: nn.Module
    teacher: nn.Module
    trained: frozenset[str]
    mark: str
    done: Linearized

    @property
    def attentions(self) -> list[str]:
        """Names of the submodules, of student and teacher, whose outputs are compared."""
        names = [one.name for one in self.done.replaced]
        wanted = set(chosen(self.section.attentions, names, "objective.attentions"))
        some = [name for name in names[:: self.section.every] if name in wanted]
        if not some:
            raise UsageError(
                f"objective.every {self.section.every} leaves none of objective.attentions, of "
                f"{len(names)} in all; take a smaller one."
            )
        start = "network." if isinstance(self.student, Network) else ""
        return [start + name for name in some]

    def objective(self, none: Any) -> Objective:
        """The loss."""
        own = objective_of(self.pipeline, self.section, none)
        return DistillObjective(self.section, own, self.teacher, self.student, self.attentions)

    def save(self, checkpoint: Path) -> None:
        """Writes `checkpoint/model`, which `load` finds, with the student's own weights in it.

        These are in the released layout of the method, which `linearize(weights=...)` takes. A
        student of ours is there as a whole too; of a pipeline of diffusers only its base is named.
        """
        folder = checkpoint / "model"
        if isinstance(self.pipeline, PretrainedPipeline):
            save_linearized(self.pipeline, folder)
        else:
            self.pipeline.save_pretrained(folder)
            save(self.pipeline, folder)
        known = {"teacher": self.section.teacher, "mark": self.mark}
        write_text(checkpoint / OF_TEACHER, json.dumps(known) + "\n")


def distillation(experiment: Experiment, device: torch.device) -> Distillation:
    """Teacher and student of an experiment, on a device.

    Raises:
        UsageError: the method does not fit the teacher, or has no such options.
        InputError, RefusedError, CorruptError: a teacher or weights that cannot be loaded.
    """
    section: Any = experiment.objective
    pipeline = open_teacher(section.teacher)
    student = called(pipeline, section)
    mark = mark_of(student)
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    precision = HALF.get(experiment.training.mixed_precision)
    teacher.to(device, precision)
    # before it is linearized, which says what runs where
    (pipeline.inner if isinstance(pipeline, PretrainedPipeline) else pipeline).to(device)
    done = linearize(pipeline, section.method, section.weights, **section.options)
    if isinstance(student, Network):
        student.size_multiple *= METHODS[section.method].side(done.options)
    own = {id(weight) for weight in own_weights(pipeline)}
    trained = frozenset(name for name, w in student.named_parameters() if id(w) in own)
    for name, weight in student.named_parameters():
        weight.requires_grad_(name in trained)
    return Distillation(section, pipeline, student, teacher, trained, mark, done)


def called(pipeline: Any, section: Distill) -> Any:
    """The network of a pipeline as training calls it.

    Raises:
        UsageError: a pipeline that no method fits.
    """
    if not isinstance(pipeline, PretrainedPipeline):
        return pipeline.model
    name = type(pipeline.inner).__name__
    if name not in CALLS:
        raise UsageError(f"{pipeline.name} is a {name}; distilling knows {', '.join(CALLS)}.")
    return Network(pipeline.inner, pipeline.family.network, section.guidance)
