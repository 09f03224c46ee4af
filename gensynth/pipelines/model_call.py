"""What a pipeline calls at every step: its model, converted to noise and guided."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.pipelines.walk import model_times
from gensynth.samplers.guidance import NoiseLevel, Predict, autoguidance, classifier_free, scheduled
from gensynth.samplers.token_decoders import TokenDecoder

if TYPE_CHECKING:
    from gensynth.pipelines.class_conditional import ClassConditionalPipeline

# Settings that say what a model's input and output mean; a guide must have the same.
MEANING = ("prediction", "ddpm_prediction", "time_scale", "path")


def fresh(sampler: SchedulerMixin, model: ModelMixin) -> SchedulerMixin:
    """A scheduler with the same settings, and with a fixed variance if the model learned none."""
    learns = getattr(model.config, "learn_sigma", True)
    learns = learns and not getattr(model.config, "discard_sigma", False)
    changes = {}
    if not learns and sampler.config.get("variance_type") == "learned_range":
        changes["variance_type"] = "fixed_large"
    return type(sampler).from_config(sampler.config, **changes)


def guided_model(
    pipeline: "ClassConditionalPipeline",
    sampler: SchedulerMixin,
    guidance: float,
    interval: tuple[float, float] | None,
    guide: "ClassConditionalPipeline | None",
    steps: int | None = None,
    classes: Tensor | None = None,
) -> Predict:
    """The model call of a pipeline, with guidance as in its settings or by a second pipeline.

    `steps` and `classes` [B] say what will be asked, for pipelines that are optimized.
    """
    config = pipeline.config
    scale = scheduled(
        guidance,
        noise_level(pipeline, sampler),
        config.guidance_schedule,
        config.guidance_power,
        interval,
    )
    null_label = pipeline.model.config.num_classes
    guided_by_null = guide is None and guidance > 1
    predict = model_call(pipeline, sampler, steps, classes, null_label if guided_by_null else None)
    if guide is None:
        return classifier_free(predict, scale, null_label, config.guided_channels)
    weak = model_call(guide, sampler, steps, classes)
    return autoguidance(predict, weak, scale, config.guided_channels)


def noise_level(pipeline: "ClassConditionalPipeline", sampler: SchedulerMixin) -> NoiseLevel:
    """0 at data and 1 at pure noise, of the timesteps that the model sees."""
    if isinstance(sampler, TokenDecoder):
        return lambda progress: 1 - progress
    if pipeline.config.prediction == "epsilon":
        return lambda timestep: timestep / sampler.config.num_train_timesteps
    return lambda timestep: 1 - timestep / pipeline.config.time_scale


def model_call(
    pipeline: "ClassConditionalPipeline",
    sampler: SchedulerMixin,
    steps: int | None = None,
    classes: Tensor | None = None,
    null_label: int | None = None,
) -> Predict:
    """The model where and in the number format it is; noise also of one that predicts x or v.

    An optimized one prepares for `steps` steps with `classes` [B] and, if given, the null label;
    then it must not be asked for others.
    """
    ask: Predict = partial(asked, pipeline.model)
    optimized = pipeline.optimized
    if optimized is not None and optimized.model is pipeline.model:
        times = model_times(pipeline, fresh(sampler, pipeline.model), steps) if steps else []
        ask = optimized.at(times, classes, null_label)
    if isinstance(sampler, TokenDecoder):
        return partial(token_logits, ask)
    kind = pipeline.config.ddpm_prediction

    def predict(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        output = ask(sample, timestep, labels)
        # float32: guidance multiplies the difference of two outputs
        output = output.to(sample.device, torch.float32)
        if kind == "epsilon":
            return output
        return as_epsilon(kind, output, sample.float(), timestep, sampler.betas)

    return predict


def asked(model: ModelMixin, sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
    """The output of a model, where and in the number format it is, for tensors from anywhere."""
    there, labels = model.device, labels.to(model.device)
    if model.works_on == "tokens":  # it is not told the time; no label is to be dropped
        return model(sample.to(there), labels, torch.zeros_like(labels, dtype=torch.bool))
    return model(sample.to(there, model.dtype), timestep.to(there), labels)


def token_logits(ask: Predict, tokens: Tensor, progress: Tensor, labels: Tensor) -> Tensor:
    """float32 [B, codebook + 1, h, w] for tokens [B, h, w], whatever the progress."""
    logits = ask(tokens, torch.zeros_like(progress), labels)
    logits = logits.to(tokens.device, torch.float32)
    return logits.transpose(1, 2).unflatten(2, tokens.shape[1:])


def as_epsilon(kind: str, output: Tensor, xt: Tensor, timestep: Tensor, betas: Tensor) -> Tensor:
    """An output [B, C or 2C, H, W] whose first C channels are "x" or "v", with noise instead.

    `xt` [B, C, H, W] is of unit variance; `timestep` [B] may lie between two of the chain, where
    the schedulers interpolate sigma = noise / signal.
    """
    timestep = timestep.to(xt.device)
    cumprod = (1 - betas.double()).cumprod(0)
    sigmas = ((1 - cumprod) / cumprod).sqrt().float().to(xt.device)
    below = timestep.floor().long()
    above = (below + 1).clamp(max=len(betas) - 1)
    sigma = sigmas[below].lerp(sigmas[above], timestep.float() - below)[:, None, None, None]
    signal = (1 + sigma.square()).rsqrt()
    predicted, variance = output[:, : xt.shape[1]], output[:, xt.shape[1] :]
    if kind == "x":
        epsilon = (xt - signal * predicted) / (signal * sigma)
    else:
        epsilon = signal * predicted + signal * sigma * xt
    return torch.cat([epsilon, variance], dim=1)


def check_codebook(model: ModelMixin, autoencoder: ModelMixin, codebook: str | None) -> None:
    """Refuses a tokenizer that does not belong to a model of tokens.

    Raises:
        UsageError: another number of codes, or another codebook.
    """
    expected = model.config.codebook_size if model.works_on == "tokens" else None
    size = getattr(autoencoder, "codebook_size", None)
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
    pipeline: "ClassConditionalPipeline",
    guide: "ClassConditionalPipeline",
    guidance: float,
    size: tuple[int, int],
) -> None:
    """Refuses a guide that cannot guide.

    Raises:
        UsageError: it draws nothing; it speaks of other pictures than the model, with the
            differences; or guidance is 1, so that it would not be asked.
    """
    guide.resolve(guidance=1)  # a tokenizer refuses
    if guidance == 1:
        raise UsageError("a guide has no effect with guidance 1; give a guidance above 1.")
    known = [_meaning(pipeline, size), _meaning(guide, size)]
    different = [
        f"{key} is {known[1][key]!r}, not {value!r}"
        for key, value in known[0].items()
        if key in known[1] and known[1][key] != value
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


def _meaning(pipeline: "ClassConditionalPipeline", size: tuple[int, int]) -> dict[str, object]:
    meaning: dict[str, object] = {key: pipeline.config.get(key) for key in MEANING}
    if pipeline.config.prediction == "epsilon":
        meaning["betas"] = pipeline.scheduler.config.get("beta_schedule")
    meaning["latent shape"] = tuple(pipeline.autoencoder.latent_shape(*size))
    if hasattr(pipeline.autoencoder, "fingerprint"):
        meaning["codebook"] = pipeline.autoencoder.fingerprint()
    meaning["number of classes"] = len(pipeline.classes)
    return meaning | {f"class {k}": name for k, name in enumerate(pipeline.classes)}
