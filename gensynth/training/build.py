"""The objects an experiment describes."""

from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.autoencoders import KLAutoencoder, PixelAutoencoder
from gensynth.config import Experiment
from gensynth.errors import UsageError
from gensynth.models import constructor_keywords, create_model, preset
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.schedulers import create_scheduler, steps_range


def build_autoencoder(experiment: Experiment) -> Any:
    """The codec of the `autoencoder:` section.

    Raises:
        InputError, CorruptError: a VAE that cannot be fetched or is damaged.
        UsageError: a VAE that is not what the section says.
    """
    section = experiment.autoencoder
    if section.path is None:
        return PixelAutoencoder(channels=experiment.data.channels, patch=section.patch)
    vae = KLAutoencoder.open(section.path)
    for key, actual in (("patch", vae.patch), ("latent_channels", vae.config.latent_channels)):
        if getattr(section, key) != actual:
            raise UsageError(
                f"autoencoder.{key} is {getattr(section, key)}, but that of {section.path} is "
                f"{actual}."
            )
    return vae


def build_model(experiment: Experiment, num_classes: int) -> ModelMixin:
    """The backbone with random weights, a function of the seed only.

    Channels come from the autoencoder, classes from the data and the variance output from the
    objective, unless `model:` says otherwise.
    """
    channels = experiment.autoencoder.channels(experiment.data.channels)
    learns_variance = experiment.objective.name == "ddpm"
    keywords: dict[str, Any] = {
        "in_channels": channels,
        "num_classes": num_classes,
        "learn_sigma": learns_variance,
    }
    if "discard_sigma" in preset(experiment.model.name)[1]:  # SiT, published with both halves
        keywords |= {"learn_sigma": True, "discard_sigma": not learns_variance}
    if "input_size" in constructor_keywords(experiment.model.name):
        keywords["input_size"] = experiment.data.size // experiment.autoencoder.patch
    given = experiment.model.model_extra or {}
    if isinstance(given.get("num_classes"), int) and given["num_classes"] < num_classes:
        raise UsageError(
            f"model.num_classes is {given['num_classes']}, but the data have {num_classes}; leave "
            "it out and it is chosen."
        )
    keywords |= given
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model = create_model(experiment.model.name, **keywords)
    if experiment.training.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.to(memory_format=torch.channels_last)


def prediction(experiment: Experiment) -> str:
    """What a pipeline of the model starts from: flow's prediction, or "epsilon" for ddpm."""
    objective = experiment.objective
    return objective.prediction if objective.name == "flow" else "epsilon"


def build_scheduler(experiment: Experiment) -> SchedulerMixin:
    """The scheduler that the `sampling:` section names.

    Raises:
        UsageError: it does not fit the objective, or the options or number of steps do not fit it.
    """
    objective, sampling = experiment.objective, experiment.sampling
    scheduler = create_scheduler(
        sampling.scheduler,
        prediction(experiment),
        sampling.scheduler_options,
        path=getattr(objective, "path", "linear"),
        betas=getattr(objective, "betas", "linear"),
    )
    fewest, most = steps_range(scheduler)
    if not fewest <= sampling.steps <= most:
        raise UsageError(
            f"sampling.steps must be from {fewest} to {most} for {type(scheduler).__name__}, "
            f"got {sampling.steps}."
        )
    return scheduler


def build_pipeline(
    experiment: Experiment, model: ModelMixin, classes: list[str], autoencoder: ModelMixin
) -> ClassConditionalPipeline:
    """The pipeline that samples from `model` as the `sampling:` section says."""
    objective, sampling = experiment.objective, experiment.sampling
    pipeline = ClassConditionalPipeline(
        model,
        build_scheduler(experiment),
        autoencoder,
        prediction=prediction(experiment),
        time_scale=getattr(experiment.objective, "time_scale", 1.0),
        size=experiment.data.size,
        steps=experiment.sampling.steps,
        guidance=experiment.sampling.guidance,
        guided_channels=experiment.sampling.guided_channels,
        guidance_schedule=sampling.guidance_schedule,
        guidance_power=sampling.guidance_power,
        guidance_interval=sampling.guidance_interval,
        ddpm_prediction=objective.prediction if objective.name == "ddpm" else "epsilon",
        path=getattr(objective, "path", "linear"),
    )
    pipeline.classes = classes
    return pipeline
