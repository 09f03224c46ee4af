"""The objects an experiment describes."""

from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

from gensynth.autoencoders import AUTOENCODERS
from gensynth.config import Experiment
from gensynth.models import create_model
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.schedulers import create_scheduler


def build_autoencoder(experiment: Experiment) -> Any:
    """The codec of the `autoencoder:` section."""
    section = experiment.autoencoder
    return AUTOENCODERS[section.kind](channels=experiment.data.channels, patch=section.patch)


def build_model(experiment: Experiment, num_classes: int) -> ModelMixin:
    """The backbone with random weights, a function of the seed only.

    Channels come from the autoencoder, classes from the data and the variance output from the
    objective, unless `model:` says otherwise.
    """
    side = experiment.data.size
    channels = build_autoencoder(experiment).latent_shape(side, side)[0]
    keywords: dict[str, Any] = {
        "in_channels": channels,
        "num_classes": num_classes,
        "learn_sigma": experiment.objective.name == "ddpm",
        **(experiment.model.model_extra or {}),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model = create_model(experiment.model.name, **keywords)
    if experiment.training.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.to(memory_format=torch.channels_last)


def prediction(experiment: Experiment) -> str:
    """What the model predicts: "velocity" or "epsilon"."""
    return "velocity" if experiment.objective.name == "flow" else "epsilon"


def build_pipeline(
    experiment: Experiment, model: ModelMixin, classes: list[str]
) -> ClassConditionalPipeline:
    """The pipeline that samples from `model` as the `sampling:` section says."""
    pipeline = ClassConditionalPipeline(
        model,
        create_scheduler(experiment.sampling.scheduler, prediction(experiment)),
        build_autoencoder(experiment).to(model.device),
        prediction=prediction(experiment),
        time_scale=getattr(experiment.objective, "time_scale", 1.0),
        size=experiment.data.size,
        steps=experiment.sampling.steps,
        guidance=experiment.sampling.guidance,
        guided_channels=experiment.sampling.guided_channels,
    )
    pipeline.classes = classes
    return pipeline
