"""The parts of an experiment, put together once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

from gensynth.autoencoders.latent_vq import LatentVQ
from gensynth.conditions import Condition
from gensynth.config import Experiment
from gensynth.errors import UsageError
from gensynth.experiments.apply import lay_out
from gensynth.experiments.build import (
    build_autoencoder,
    build_condition,
    build_model,
    build_objective,
    build_pipeline,
)
from gensynth.experiments.distilling.student import Distillation, distillation
from gensynth.experiments.distilling.teacher import check_classes, codec_of
from gensynth.experiments.encoding_texts import use_encoded_texts
from gensynth.experiments.regularization import Regularization
from gensynth.objectives import Objective
from gensynth.pipelines.saving import SavedPipeline


@dataclass
class Parts:
    """What a run trains and with what.

    Attributes:
        condition: what pictures can show.
        autoencoder: pixels <-> what the model works on, frozen.
        model: the backbone, or the tokenizer, without wrappers.
        objective: model and batch -> loss.
        regularization: further terms of the loss.
        distillation: where the model is a student, all about that.
    """

    experiment: Experiment
    condition: Condition
    autoencoder: Any
    model: ModelMixin
    objective: Objective
    regularization: Regularization
    distillation: Distillation | None = None

    def pipeline(self, model: Any = None) -> SavedPipeline:
        """A pipeline of the model as it is now, or of another one in its place."""
        if self.distillation is not None:
            assert model is None
            return self.distillation.pipeline
        model = self.model if model is None else model
        return build_pipeline(self.experiment, model, self.condition, self.autoencoder)


def check_named(experiment: Experiment, condition: Condition) -> None:
    """Refuses a model with more classes than have names: its folder could not be loaded.

    Raises:
        UsageError: with what to leave out or to add.
    """
    named = condition.model_keywords().get("num_classes")
    asked = (experiment.model.model_extra or {}).get("num_classes")
    if named and isinstance(asked, int) and asked > named:
        raise UsageError(
            f"model.num_classes is {asked}, but the data name {named} classes, and what has no "
            "name is neither learned nor drawn. Leave it out and it is chosen, or name all "
            f"{asked} in data.classes=[...], those without pictures too."
        )


def assemble(
    experiment: Experiment,
    classes: list[str],
    device: torch.device,
    processes: int = 1,
    captions: Sequence[str] = (),
    begun: Path | None = None,
) -> Parts:
    """Everything an experiment describes, for data with these class names, on a device.

    Args:
        processes: how many share a batch.
        captions, begun: see `Condition.of_experiment`.

    Raises:
        UsageError: parts that do not fit the data or each other.
        InputError, CorruptError: an autoencoder or a frozen encoder that cannot be loaded.
    """
    if experiment.objective.name == "distill":
        return assemble_distilled(experiment, classes, device, processes)
    condition = build_condition(experiment, classes, captions, begun)
    use_encoded_texts(condition, experiment.data)
    check_named(experiment, condition)
    model = lay_out(build_model(experiment, condition), experiment.training)
    if experiment.objective.draws:  # a tokenizer is told nothing
        condition = condition.for_model(model)
    autoencoder = build_autoencoder(experiment).to(device)
    if isinstance(model, LatentVQ):
        model.hold(autoencoder)
    regularization = Regularization(experiment, model, processes)
    objective = build_objective(experiment, model.to(device), condition)
    return Parts(experiment, condition, autoencoder, model, objective, regularization)


def assemble_distilled(
    experiment: Experiment, classes: list[str], device: torch.device, processes: int
) -> Parts:
    """Everything of a distillation, most of which is the teacher's."""
    pair = distillation(experiment, device)
    condition, codec = pair.pipeline.condition, codec_of(pair.pipeline)
    use_encoded_texts(condition, experiment.data)
    check_classes(condition, classes, pair.section.teacher)
    check_size(experiment, codec, pair.student)
    model: Any = lay_out(pair.student, experiment.training).to(device)
    objective = pair.objective(condition.none(device))
    regularization = Regularization(experiment, model, processes)
    return Parts(experiment, condition, codec.to(device), model, objective, regularization, pair)


def check_size(experiment: Experiment, codec: Any, student: Any) -> None:
    """
    Raises:
        UsageError: a size of pictures that the student cannot take; says which it can.
    """
    multiple, size = codec.patch * student.size_multiple, experiment.data.size
    if size % multiple:
        near = max(multiple, round(size / multiple) * multiple)
        raise UsageError(
            f"data.size is {size}, but with these options the student takes multiples of "
            f"{multiple} pixels; set data.size={near}."
        )
    if codec.channels != experiment.data.channels:
        raise UsageError(
            f"data.channels is {experiment.data.channels}, but the teacher draws pictures of "
            f"{codec.channels} channels; set data.channels={codec.channels}."
        )
