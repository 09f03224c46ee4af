"""The pipelines of published models, which draw as their published tables were drawn."""

from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.autoencoders import open_autoencoder
from gensynth.conditions.classes import Classes
from gensynth.convert import imagenet
from gensynth.convert.matching import Match
from gensynth.convert.tokens import drawn_tokens, open_tokenizer
from gensynth.errors import UsageError
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.samplers.registry import create_scheduler

DEFAULT_VAE = "stabilityai/sd-vae-ft-ema"
CONVNET_SIZE = 256  # pixels; nothing in a ConvNet's tensors tells, and 256 is what was published
STEPS = 250
# Guidance of each system's published tables; DiC does not say and has DiT's.
_DDPM = {"prediction": "epsilon", "guidance": 1.5}
DRAWN: dict[str, dict[str, Any]] = {
    "dit": _DDPM,
    "dic": _DDPM,
    "dico": {**_DDPM, "guidance": 1.4},
    "mdt": {
        **_DDPM,
        "guidance": 3.8,
        "guidance_schedule": "power-cosine",
        "guidance_power": 4.0,
    },
    "sit": {"prediction": "velocity", "guidance": 1.5},
}
# REPA's (README.md, generate.py): all channels are guided, in a part of the way.
REPA = {"guidance": 1.8, "guided_channels": None, "guidance_interval": (0.0, 0.7)}
SCHEDULERS = {"sit": "FlowSDEScheduler"}  # of the others the default, DDPM


def open_codec(system: str, given: str) -> ModelMixin:
    """The VAE or, of "maskgit", the tokenizer.

    Raises:
        GensynthError: it is missing, damaged or of another kind.
    """
    return open_tokenizer(given) if system == "maskgit" else open_autoencoder(given, "kl")


def drawing_pipeline(
    system: str,
    found: Match,
    model: ModelMixin,
    codec: ModelMixin,
    given: str,
    size: int | None,
) -> ClassConditionalPipeline:
    """The pipeline of a published model.

    Args:
        found: what the model was filled from.
        codec: what `open_codec` made of `given`.
        size: pixels; None: the size of the position table, or 256 for a ConvNet.

    Raises:
        UsageError: a codec or size that does not fit the model.
    """
    if system == "maskgit":
        scheduler, settings = drawn_tokens(found.name)
    else:
        scheduler, settings = drawn_latents(system, found, model, codec, given)
    side = model.config.get("input_size")
    if size is None:
        if side is not None and not isinstance(side, int):
            raise UsageError(f"the model is of {side[0]}x{side[1]} latents; give a --size.")
        size = CONVNET_SIZE if side is None else side * codec.patch
    multiple = model.size_multiple * codec.patch
    if size < multiple or size % multiple:
        raise UsageError(f"--size must be a multiple of {multiple} pixels, got {size}.")
    pipeline = ClassConditionalPipeline(model, scheduler, codec, size=size, **settings)
    if model.config.num_classes == imagenet.COUNT:
        pipeline.condition = imagenet.imagenet_classes(Classes.of_model(model).null)
    return pipeline


def drawn_latents(
    system: str, found: Match, model: ModelMixin, codec: ModelMixin, given: str
) -> tuple[SchedulerMixin, dict[str, Any]]:
    """The scheduler and the settings with which a system's published tables were drawn.

    Raises:
        UsageError: the VAE has other channels than the model.
    """
    channels = codec.latent_shape(codec.patch, codec.patch)[0]
    if model.config.in_channels != channels:
        raise UsageError(
            f"the model works on {model.config.in_channels} channels and the VAE {given} has "
            f"{channels}; give the one it was trained with: --vae."
        )
    settings = {
        "steps": STEPS,
        "guided_channels": 3,
        **DRAWN[system],
        **(REPA if found.repa else {}),
    }
    if not model.config.null_label:
        settings["guidance"] = 1.0
    return create_scheduler(SCHEDULERS.get(system), settings["prediction"]), settings
