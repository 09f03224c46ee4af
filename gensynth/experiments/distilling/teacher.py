"""The teacher of a distillation: what its folder says, and what it was trained with."""

from typing import Any

from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.conditions import Condition
from gensynth.config import DDPM, Distill, Flow
from gensynth.errors import UsageError
from gensynth.files import json_in
from gensynth.objectives import Objective, create_objective
from gensynth.objectives.diffusers_noise import check_uniform, noise_objective
from gensynth.pipelines.finding import INDEX, pretrained_class, resolve
from gensynth.pipelines.loading import load
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline

FLOWS = ("velocity", "noise", "score", "x")  # what objective flow predicts
# Betas by the name that a scheduler has for them.
BETAS: dict[str, Any] = {"linear": "linear", "squaredcos_cap_v2": "cosine"}


def told_by(teacher: str) -> str:
    """The kind of condition of a teacher, from its folder: "classes", "text" or "none".

    Raises:
        InputError, RefusedError: as `resolve`.
    """
    index = json_in(resolve(teacher) / INDEX)
    if pretrained_class(index) is not None:
        return "text"
    kind = index.get("condition_kind", "classes") if isinstance(index, dict) else "classes"
    return str(kind)


def open_teacher(teacher: str) -> Any:
    """The pipeline of a teacher, on the CPU in float32.

    Raises:
        InputError, RefusedError, CorruptError: as `gensynth.load`.
    """
    return load(teacher, device="cpu")


def codec_of(pipeline: Any) -> Any:
    """Its frozen autoencoder, as those of experiments are."""
    if not isinstance(pipeline, PretrainedPipeline):
        return pipeline.autoencoder
    vae = pipeline.inner.vae
    codec = KLAutoencoder.from_config(vae.config)
    codec.load_state_dict(vae.state_dict())
    return codec.eval().requires_grad_(False)


def objective_of(pipeline: Any, section: Distill, none: Any) -> Objective:
    """What a pipeline's network was trained with, as far as its folder tells.

    Raises:
        UsageError: nothing that is known here.
    """
    if isinstance(pipeline, PretrainedPipeline):
        return noise_objective(section, pipeline.inner.scheduler, none)
    config = pipeline.config
    own: Flow | DDPM
    if config.prediction in FLOWS:
        own = Flow(
            path=config.path,
            prediction=config.prediction,
            time=section.time,
            logit_mean=section.logit_mean,
            logit_std=section.logit_std,
            time_scale=config.time_scale,
            label_dropout=section.label_dropout,
        )
    else:
        check_uniform(section)
        betas = pipeline.scheduler.config.get("beta_schedule", "linear")
        if betas not in BETAS:
            raise UsageError(f"the teacher {pipeline.name} has betas that are not known: {betas}.")
        own = DDPM(
            betas=BETAS[betas],
            prediction=config.ddpm_prediction,
            label_dropout=section.label_dropout,
        )
    return create_objective(own, pipeline.model, none)


def check_classes(condition: Condition, names: list[str], teacher: str) -> None:
    """Refuses data whose classes are not those of the teacher, in its order.

    Raises:
        UsageError: names both.
    """
    known = getattr(condition, "names", None)
    if condition.reads == "texts" or known is None or list(known) == names:
        return
    raise UsageError(
        f"the classes of the data ({', '.join(names[:3])}, ...) are not those of the teacher "
        f"{teacher} ({', '.join(list(known)[:3])}, ...); give the data that it was trained on."
    )
