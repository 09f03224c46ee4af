"""Whether parts belong together: a tokenizer and a model, a guide and what it guides."""

import math
from typing import Any

import torch
from torch import Tensor

from gensynth.conditions import Conditions
from gensynth.errors import UsageError
from gensynth.models.backbone import Backbone
from gensynth.pipelines.contract import Composed
from gensynth.pipelines.model_call import sampler_of
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.samplers.contract import Predict
from gensynth.samplers.flow_schedulers import MOST_STEPS
from gensynth.samplers.guidance import SCHEDULES
from gensynth.samplers.paths import PATHS
from gensynth.samplers.registry import predictions
from gensynth.settings import Settings

# Settings of a folder that say what a model's input and output mean; a guide must have the same.
MEANING = ("prediction", "ddpm_prediction", "time_scale", "path")
LARGEST_SIZE = 2**14  # pixels of a side that a model may have been trained at
# Settings of a folder -> the least and the most that can be meant.
RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, MOST_STEPS),
    "guidance": (0, 1000),
    "guidance_power": (0, 1000),
    "guided_channels": (1, 10_000),
    "time_scale": (1e-6, 1e6),
}


def check_drawable(pipeline: Composed) -> None:
    """Refuses a model folder whose settings or parts cannot draw: one step without its network.

    Raises:
        UsageError: settings out of range, or parts that are not each other's.
    """
    config, codec, model = pipeline.config, pipeline.autoencoder, pipeline.model
    for name, (least, most) in RANGES.items():
        if config[name] is not None and not least <= config[name] <= most:
            raise UsageError(f"its {name} is {config[name]}, not from {least} to {most}.")
    choices = {
        "prediction": predictions(),
        "ddpm_prediction": ["epsilon", "x", "v"],
        "path": list(PATHS),
        "guidance_schedule": list(SCHEDULES),
        "fit": ["crop", "pad"],
    }
    for name, known in choices.items():
        if config[name] not in known:
            raise UsageError(f"its {name} is {config[name]!r}, not one of {', '.join(known)}.")
    multiple = model.size_multiple * codec.patch
    if not 0 < config.size <= LARGEST_SIZE or config.size % multiple:
        raise UsageError(f"its size is {config.size}, not a multiple of {multiple} pixels.")
    if codec.channels not in (1, 3):
        raise UsageError(f"its pictures have {codec.channels} channels, not 1 or 3.")
    shape = codec.latent_shape(multiple, multiple)  # [C, h, w], or [h, w] of tokens
    channels = model.config.get("in_channels", shape[0])
    if model.works_on == "latents" and shape[0] != channels:
        raise UsageError(
            f"its model works on {channels} channels, and its autoencoder gives {shape[0]}."
        )
    _check_parts(pipeline, shape, multiple)


def _check_parts(pipeline: Composed, shape: tuple[int, ...], multiple: int) -> None:
    """Takes one step from noise [C, h, w], or masked tokens [h, w], and decodes one picture."""
    config, codec, model = pipeline.config, pipeline.autoencoder, pipeline.model
    sampler = sampler_of(pipeline, pipeline.scheduler)
    fewest, most = sampler.steps_range(math.prod(shape[-2:]))
    sample = sampler.start(shape, [torch.Generator().manual_seed(0)])
    steps = max(fewest, min(config.steps, most))
    predict = sampler.adapted(_silent(model))
    step = next(sampler.walk(predict, sample, steps, {}, [torch.Generator().manual_seed(0)]))
    if not step.sample.isfinite().all():
        raise UsageError(f"its {type(pipeline.scheduler).__name__} does not give finite numbers.")
    if codec.dtype == torch.float32:  # not every device computes in every format
        decoded = codec.decode(torch.zeros_like(sample, device=codec.device))
        if decoded.shape != (1, codec.channels, multiple, multiple):
            raise UsageError(f"its autoencoder gives {list(decoded.shape)} for one picture.")


def _silent(model: Backbone) -> Predict:
    """A network's call with an output of the right shape, that says nothing."""

    def ask(sample: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        if model.works_on == "tokens":  # [B, h, w] -> [B, h * w, codebook + 1]
            places = sample.flatten(1)[..., None]
            return places.expand(-1, -1, model.config.codebook_size + 1).float() * 0
        return sample.repeat(1, 2 if model.returns_variance else 1, 1, 1) * 0

    return ask


def check_codebook(model: Backbone, autoencoder: Any, codebook: str | None) -> None:
    """Refuses a tokenizer that does not belong to a model of tokens.

    Raises:
        UsageError: another number of codes, or another codebook.
    """
    expected = model.config.codebook_size if model.works_on == "tokens" else None
    size = autoencoder.codebook_size
    if size != expected:
        raise UsageError(
            f"the model works on {_codes(expected)} and the autoencoder gives {_codes(size)}; "
            "give the tokenizer that the model was trained with."
        )
    if codebook is not None and autoencoder.fingerprint() != codebook:
        raise UsageError(
            "this tokenizer has as many codes as the model's, but other ones; give the tokenizer "
            "that the model was trained with."
        )


def _codes(size: int | None) -> str:
    return "latents" if size is None else f"tokens of {size} codes"


def check_guide(
    pipeline: Composed, guide: Composed | PretrainedPipeline, guidance: float, size: tuple[int, int]
) -> None:
    """Refuses a guide that cannot guide.

    Raises:
        UsageError: it draws nothing; it speaks of other pictures than the model, with the
            differences; or guidance is 1, so that it would not be asked.
    """
    if isinstance(guide, PretrainedPipeline):
        raise UsageError(
            f"this guide does not fit the model: {guide.name} is a pipeline of diffusers; give a "
            "model of gensynth."
        )
    guide.resolve(Settings(guidance=1))  # a tokenizer refuses
    if guidance == 1:
        raise UsageError("a guide has no effect with guidance 1; give a guidance above 1.")
    known = [_meaning(pipeline, size), _meaning(guide, size)]
    different = [
        f"{key} is {known[1][key]!r}, not {value!r}"
        for key, value in known[0].items()
        if key in known[1] and known[1][key] != value  # a class that one lacks contradicts nothing
    ]
    if different:
        shown = "; its ".join(different[:4]) + ("; ..." if len(different) > 4 else "")
        raise UsageError(f"this guide does not fit the model: its {shown}.")
    multiple = guide.model.size_multiple * guide.autoencoder.patch
    if size[0] % multiple or size[1] % multiple:
        raise UsageError(
            f"this guide cannot draw {size[0]}x{size[1]}: each side must be a multiple of "
            f"{multiple}."
        )


def _meaning(pipeline: Composed, size: tuple[int, int]) -> dict[str, object]:
    meaning: dict[str, object] = {key: pipeline.config.get(key) for key in MEANING}
    if pipeline.config.prediction == "epsilon":
        meaning["betas"] = pipeline.scheduler.config.get("beta_schedule")  # noise of a timestep
    meaning["latent shape"] = tuple(pipeline.autoencoder.latent_shape(*size))
    meaning["codebook"] = pipeline.autoencoder.fingerprint()
    meaning["condition"] = type(pipeline.condition).__name__
    return meaning | pipeline.condition.describe()
