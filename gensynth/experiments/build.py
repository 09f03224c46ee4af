"""Each object that an experiment describes, made by itself; `assemble` makes them together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.autoencoders import PixelAutoencoder, open_autoencoder
from gensynth.conditions import Condition, condition_kind
from gensynth.config import Experiment
from gensynth.errors import UsageError
from gensynth.experiments.distilling.teacher import codec_of, open_teacher, told_by
from gensynth.experiments.encoders import PerceptualDistance
from gensynth.models import constructor_keywords, create_model, preset
from gensynth.objectives import Objective, create_objective
from gensynth.pipelines import PIPELINE_OF
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pipelines.tokenizer import TokenizerPipeline
from gensynth.samplers.contract import Meaning
from gensynth.samplers.registry import create_sampler, create_scheduler
from gensynth.seeding import derived_seed


def build_condition(
    experiment: Experiment,
    names: list[str],
    captions: Sequence[str] = (),
    begun: Path | None = None,
) -> Condition:
    """What the pictures of data can show; see `Condition.of_experiment`.

    Raises:
        UsageError: an unknown kind of condition.
    """
    shown = experiment.condition
    return condition_kind(shown.kind).of_experiment(shown, names, captions, begun)


def reads_texts(experiment: Experiment) -> bool:
    """Whether the captions of the pictures are needed, and not their classes."""
    kind = experiment.condition.kind
    if experiment.objective.name == "distill":
        kind = told_by(experiment.objective.teacher)
    return condition_kind(kind).reads == "texts"


def build_autoencoder(experiment: Experiment) -> Any:
    """The codec of the `autoencoder:` section.

    Raises:
        InputError, CorruptError: one that cannot be fetched or is damaged.
        UsageError: one that is not what the section says.
    """
    section = experiment.autoencoder
    if experiment.objective.name == "distill":
        return codec_of(open_teacher(experiment.objective.teacher))
    if section.path is None:
        return PixelAutoencoder(channels=experiment.data.channels, patch=section.patch)
    codec = open_autoencoder(section.path, section.kind)
    actual = {"patch": codec.patch}
    if section.gives == "tokens":
        actual["codebook_size"] = codec.codebook_size
    else:
        actual["latent_channels"] = codec.latent_shape(codec.patch, codec.patch)[0]
    wanted = section.model_dump(include=set(actual))
    for key, value in actual.items():
        if wanted[key] != value:
            raise UsageError(
                f"autoencoder.{key} is {wanted[key]}, but that of {section.path} is {value}; set "
                f"autoencoder.{key}={value}."
            )
    if codec.channels != experiment.data.channels:
        raise UsageError(
            f"data.channels is {experiment.data.channels}, but {section.path} encodes images of "
            f"{codec.channels} channels; set data.channels={codec.channels}."
        )
    return codec


def build_model(experiment: Experiment, condition: Condition) -> ModelMixin:
    """The backbone with random weights, a function of the seed only.

    Channels and codes come from the autoencoder, classes from the condition and the variance output
    from the objective, unless `model:` says otherwise.

    Raises:
        UsageError: a model for fewer classes than the data have.
    """
    codec = experiment.autoencoder
    learns_variance = experiment.objective.learns_variance
    keywords: dict[str, Any] = {
        "in_channels": codec.channels(experiment.data.channels),
        "channels": seen_channels(experiment),
        "text": None,  # also of a preset of texts, if it is to know classes
        **condition.model_keywords(),
        "learn_sigma": learns_variance,
        "input_size": experiment.data.size // codec.patch,
    }
    if codec.codebook_size is not None:
        keywords["codebook_size"] = codec.codebook_size
    if "discard_sigma" in preset(experiment.model.name)[1]:  # SiT, published with both halves
        keywords |= {"learn_sigma": True, "discard_sigma": not learns_variance}
    known = constructor_keywords(experiment.model.name)
    keywords = {key: value for key, value in keywords.items() if key in known}  # not all take all
    given = experiment.model.model_extra or {}
    needed, asked = keywords.get("num_classes"), given.get("num_classes")
    if isinstance(asked, int) and needed is not None and asked < needed:
        raise UsageError(
            f"model.num_classes is {asked}, but the data have {needed}; leave it out and it is "
            "chosen."
        )
    keywords |= given  # the `model:` section has the last word
    with torch.random.fork_rng(devices=[]):  # the caller's generator is left as it is
        torch.manual_seed(experiment.seed)
        return create_model(experiment.model.name, **keywords)


def seen_channels(experiment: Experiment) -> int:
    """Channels of what a tokenizer is trained on: of the pixels, or of the latents."""
    channels = experiment.data.channels
    works_on = preset(experiment.model.name)[0].works_on
    return channels if works_on == "pixels" else experiment.autoencoder.channels(channels)


def build_objective(experiment: Experiment, model: ModelMixin, condition: Condition) -> Objective:
    """The objective of a model without wrappers, with the frozen network that it may compare by."""
    section, perceptual = experiment.objective, None
    if section.name == "reconstruction" and section.perceptual:
        perceptual = PerceptualDistance().to(model.device).eval()
    none = condition.none(model.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(experiment.seed, "objective"))  # apart from the model's
        return create_objective(section, model, none, perceptual)


def build_scheduler(experiment: Experiment) -> SchedulerMixin:
    """The scheduler that the `sampling:` section names.

    Raises:
        UsageError: it does not fit the objective, or the options or number of steps do not fit it.
    """
    objective, sampling = experiment.objective, experiment.sampling
    scheduler = create_scheduler(
        sampling.scheduler,
        objective.predicts,
        sampling.scheduler_options,
        **objective.scheduler_keywords,
    )
    side = experiment.data.size // experiment.autoencoder.patch  # of latents or tokens
    sampler = create_sampler(scheduler, Meaning(objective.predicts))
    fewest, most = sampler.steps_range(side * side)
    if not fewest <= sampling.steps <= most:
        raise UsageError(
            f"sampling.steps must be from {fewest} to {most} for {type(scheduler).__name__}, "
            f"got {sampling.steps}."
        )
    return scheduler


def build_pipeline(
    experiment: Experiment, model: ModelMixin, condition: Condition, autoencoder: ModelMixin
) -> SavedPipeline:
    """The pipeline of `model`: it draws as the `sampling:` section says, or is a tokenizer."""
    objective, sampling, data = experiment.objective, experiment.sampling, experiment.data
    if not objective.draws:
        return TokenizerPipeline(model, data.size, data.fit)
    kind = experiment.condition.kind
    pipeline = PIPELINE_OF.get(kind, DrawingPipeline)(
        model,
        build_scheduler(experiment),
        autoencoder,
        prediction=objective.predicts,
        size=data.size,
        steps=sampling.steps,
        guidance=sampling.guidance,
        guided_channels=sampling.guided_channels,
        guidance_schedule=sampling.guidance_schedule,
        guidance_power=sampling.guidance_power,
        guidance_interval=sampling.guidance_interval,
        fit=data.fit,
        condition_kind=kind,
        **objective.pipeline_keywords,
    )
    pipeline.condition = condition  # with the names that the data give their classes
    return pipeline
