"""The objects an experiment describes."""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.autoencoders import PixelAutoencoder, open_autoencoder
from gensynth.config import Experiment
from gensynth.errors import UsageError
from gensynth.experiments.encoders import PerceptualDistance
from gensynth.models import constructor_keywords, create_model, preset
from gensynth.objectives import Objective, create_objective
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pipelines.tokenizer import TokenizerPipeline
from gensynth.samplers.registry import create_scheduler, steps_range
from gensynth.seeding import derived_seed

# A kind of block is compiled once for each width, size and number of inputs it is called with,
# anew for pictures drawn while training; above torch's own limit of 8 it would run uncompiled.
MOST_COMPILED = 64


def build_autoencoder(experiment: Experiment) -> Any:
    """The codec of the `autoencoder:` section.

    Raises:
        InputError, CorruptError: one that cannot be fetched or is damaged.
        UsageError: one that is not what the section says.
    """
    section = experiment.autoencoder
    if section.path is None:
        return PixelAutoencoder(channels=experiment.data.channels, patch=section.patch)
    codec = open_autoencoder(section.path, section.kind)
    actual = {"patch": codec.patch}
    if section.gives == "tokens":
        actual["codebook_size"] = codec.codebook_size
    else:
        actual["latent_channels"] = codec.latent_shape(codec.patch, codec.patch)[0]
    for key, value in actual.items():
        if getattr(section, key) != value:
            raise UsageError(
                f"autoencoder.{key} is {getattr(section, key)}, but that of {section.path} is "
                f"{value}; set autoencoder.{key}={value}."
            )
    if codec.channels != experiment.data.channels:
        raise UsageError(
            f"data.channels is {experiment.data.channels}, but {section.path} encodes images of "
            f"{codec.channels} channels; set data.channels={codec.channels}."
        )
    return codec


def build_model(experiment: Experiment, num_classes: int) -> ModelMixin:
    """The backbone with random weights, a function of the seed only.

    Channels and codes come from the autoencoder, classes from the data and the variance output
    from the objective, unless `model:` says otherwise.
    """
    codec = experiment.autoencoder
    learns_variance = experiment.objective.learns_variance
    keywords: dict[str, Any] = {
        "in_channels": codec.channels(experiment.data.channels),
        "channels": experiment.data.channels,
        "num_classes": num_classes,
        "learn_sigma": learns_variance,
        "input_size": experiment.data.size // codec.patch,
    }
    if codec.codebook_size is not None:
        keywords["codebook_size"] = codec.codebook_size
    if "discard_sigma" in preset(experiment.model.name)[1]:  # SiT, published with both halves
        keywords |= {"learn_sigma": True, "discard_sigma": not learns_variance}
    known = constructor_keywords(experiment.model.name)
    keywords = {key: value for key, value in keywords.items() if key in known}
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


def compile_blocks(model: ModelMixin, watched: Iterable[str] = ()) -> None:
    """Compiles the repeated blocks of a model in place, each kind when it is first called.

    Only their `forward`, so that hooks on a block are outside of what is compiled; one inside would
    go on giving the output of an earlier step. Weights keep their names.

    Args:
        watched: submodules whose outputs are read by hooks.

    Raises:
        UsageError: a model without repeated blocks, or one of `watched` is inside of a block.
    """
    kinds = getattr(model, "_repeated_blocks", None) or ()
    blocks = {n: module for n, module in model.named_modules() if type(module).__name__ in kinds}
    if not blocks:
        raise UsageError(
            f"training.compile: {type(model).__name__} has no repeated blocks to compile; leave it "
            "out."
        )
    for name in watched:
        outer = next((block for block in blocks if name.startswith(f"{block}.")), None)
        if outer is not None:
            raise UsageError(
                f"training.compile: a regularizer reads {name}, which is inside of the compiled "
                f"{outer}. Let it read {outer}, or set training.compile=false."
            )
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MOST_COMPILED)
    # Masked passes (MDTv2) keep another number of tokens in every step; all other sizes stay.
    dynamic = None if model.config.get("mask_ratio") is not None else False
    for block in blocks.values():
        block.forward = torch.compile(block.forward, dynamic=dynamic)


def build_objective(experiment: Experiment, model: ModelMixin) -> Objective:
    """The objective of a model without wrappers, with the frozen network that it may compare by."""
    perceptual = None
    if getattr(experiment.objective, "perceptual", 0):
        perceptual = PerceptualDistance().to(model.device).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(experiment.seed, "objective"))
        return create_objective(experiment.objective, model, perceptual)


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
        path=getattr(objective, "path", "linear"),
        betas=getattr(objective, "betas", "linear"),
    )
    side = experiment.data.size // experiment.autoencoder.patch
    fewest, most = steps_range(scheduler, side * side)
    if not fewest <= sampling.steps <= most:
        raise UsageError(
            f"sampling.steps must be from {fewest} to {most} for {type(scheduler).__name__}, "
            f"got {sampling.steps}."
        )
    return scheduler


def build_pipeline(
    experiment: Experiment, model: ModelMixin, classes: list[str], autoencoder: ModelMixin
) -> SavedPipeline:
    """The pipeline of `model`: it draws as the `sampling:` section says, or is a tokenizer."""
    objective, sampling = experiment.objective, experiment.sampling
    if objective.works_on == "pixels":
        return TokenizerPipeline(model, experiment.data.size, experiment.data.fit)
    pipeline = ClassConditionalPipeline(
        model,
        build_scheduler(experiment),
        autoencoder,
        prediction=objective.predicts,
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
        fit=experiment.data.fit,
    )
    pipeline.classes = classes
    return pipeline
