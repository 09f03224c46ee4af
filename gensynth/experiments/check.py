"""Whether the parts of an experiment fit each other, found out before anything loads."""

from typing import TYPE_CHECKING, Any

from gensynth.config import Experiment
from gensynth.errors import UsageError
from gensynth.experiments.explain import OBJECTIVES, nearest

if TYPE_CHECKING:
    from gensynth.conditions import Condition


def check_model(experiment: Experiment) -> None:
    """Checks what the schema cannot know: the model's own keywords, and that the parts fit.

    Raises:
        UsageError: an unknown model, keyword or scheduler, a value the model refuses, or one that
            the objective or the data contradict.
    """
    import torch

    from gensynth.experiments.apply import lay_out
    from gensynth.experiments.build import build_condition, build_model, build_scheduler
    from gensynth.models import constructor_keywords, preset

    name, given = experiment.model.name, experiment.model.model_extra or {}
    preset(name)  # raises for an unknown name
    known = constructor_keywords(name)
    for key in given:
        if key not in known:
            raise UsageError(
                f"unknown key 'model.{key}' for {name}.{nearest(key, known)} "
                f"Known: {', '.join(known)}."
            )
    condition = build_condition(experiment, ["one", "two"])  # stand-ins: no data are open yet
    _check_parts(experiment)
    _check_condition(experiment, condition)
    _check_contradictions(experiment, given)
    if experiment.objective.works_on != "pixels":
        build_scheduler(experiment)
    try:
        with torch.device("meta"):  # shapes only, no memory
            model = lay_out(build_model(experiment, condition), experiment.training)
    except UsageError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        values = ", ".join(f"{key}={value!r}" for key, value in given.items()) or "its defaults"
        at = f"data.size {experiment.data.size}, autoencoder.patch {experiment.autoencoder.patch}"
        raise UsageError(f"model {name} cannot be built with {values} at {at}: {error}.") from error
    side = experiment.data.size // experiment.autoencoder.patch
    if side % model.size_multiple:
        raise UsageError(
            f"{name} needs a latent size divisible by {model.size_multiple}, but data.size "
            f"{experiment.data.size} with autoencoder.patch {experiment.autoencoder.patch} "
            f"gives {side}."
        )
    if experiment.regularizers:
        from gensynth.experiments.regularization import check_regularizers

        check_regularizers(experiment, model)


def _check_parts(experiment: Experiment) -> None:
    """Objective, model and autoencoder have to work on the same thing."""
    from gensynth.models import MODELS, preset

    objective, codec, wanted = experiment.objective, experiment.autoencoder, ""
    name = experiment.model.name
    works_on = preset(name)[0].works_on
    if works_on != objective.works_on:
        others = [key for key, section in OBJECTIVES.items() if section.works_on == works_on]
        known = [name for name, entry in MODELS.items() if entry[0].works_on == objective.works_on]
        raise UsageError(
            f"objective {objective.name} trains models of {objective.works_on}, and {name} is one "
            f"of {works_on}: take objective {' or '.join(others)}, or one of: {', '.join(known)}."
        )
    if objective.works_on == "pixels":
        if (codec.kind, codec.patch) != ("none", 1):
            wanted = "autoencoder.kind=none and autoencoder.patch=1"
        if experiment.data.source == "encoded":
            wanted = "a data.source of images"
    elif codec.gives != objective.works_on:
        kinds = {"tokens": "vq", "latents": "none or kl"}[objective.works_on]
        wanted = f"autoencoder.kind={kinds}"
    if wanted:
        raise UsageError(
            f"objective {objective.name} trains on {objective.works_on}; set {wanted}."
        )


def _check_condition(experiment: Experiment, condition: "Condition") -> None:
    """The model has to take what the condition gives."""
    import torch

    from gensynth.models import MODELS, preset

    if experiment.objective.works_on == "pixels":
        return  # a tokenizer is told nothing
    name, kind = experiment.model.name, experiment.condition.kind
    if not set(condition.tensors) <= set(preset(name)[0].takes):
        known = [n for n, entry in MODELS.items() if set(condition.tensors) <= set(entry[0].takes)]
        raise UsageError(
            f"condition.kind {kind} gives {', '.join(condition.tensors)}, which {name} does not "
            f"take. Models that do: {', '.join(known) or 'none'}."
        )
    if experiment.sampling.guidance != 1 and condition.none(torch.device("cpu")) is None:
        raise UsageError(
            f"with condition.kind {kind} there is nothing to guide away from; set "
            "sampling.guidance=1."
        )


def _check_contradictions(experiment: Experiment, given: dict[str, Any]) -> None:
    _check_chosen(experiment, given)
    encoded = experiment.data.source == "encoded"
    if experiment.autoencoder.kind == "kl" and experiment.data.channels != 3:
        raise UsageError("autoencoder.kind kl encodes RGB images; set data.channels=3.")
    if encoded and any(term.name == "repa" for term in experiment.regularizers):
        raise UsageError("regularizer repa looks at the images, which data.source encoded has not.")
    if given.get("size_conditioning") and experiment.data.zoom is None:
        raise UsageError(
            "model.size_conditioning has nothing to learn from without crops; set data.zoom, for "
            "instance data.zoom=[1.0,1.5]."
        )
    if experiment.objective.works_on == "tokens" and experiment.sampling.guided_channels:
        raise UsageError(
            "sampling.guided_channels is of latents; tokens are guided whole. Leave it out."
        )
    if not given.get("null_label", True) and experiment.objective.label_dropout > 0:
        raise UsageError(
            "model.null_label=false leaves no label to drop to; set objective.label_dropout=0."
        )
    draws = experiment.objective.works_on != "pixels"  # a tokenizer does not, whatever is set
    if draws and experiment.sampling.guidance != 1 and experiment.objective.label_dropout == 0:
        raise UsageError(
            "sampling.guidance other than 1 needs a model that has seen dropped labels; set "
            "objective.label_dropout=0.1 or sampling.guidance=1."
        )


def _check_chosen(experiment: Experiment, given: dict[str, Any]) -> None:
    """What other sections decide about a model may be repeated under `model:`, not contradicted."""
    learns_variance = experiment.objective.learns_variance
    channels = experiment.autoencoder.channels(experiment.data.channels)
    if given.get("learn_sigma", learns_variance) and not learns_variance:
        raise UsageError(
            f"model.learn_sigma must be false with objective {experiment.objective.name}; "
            "leave it out and it is chosen."
        )
    if given.get("in_channels", channels) != channels:
        raise UsageError(
            f"model.in_channels is {given['in_channels']}, but the latents have {channels} "
            "channels; leave it out and it is chosen."
        )
    chosen = {"codebook_size": ("autoencoder", experiment.autoencoder.codebook_size)}
    if experiment.objective.works_on == "pixels":
        chosen = {"channels": ("data", experiment.data.channels)}
    for key, (section, value) in chosen.items():
        if value is not None and given.get(key, value) != value:
            raise UsageError(
                f"model.{key} is {given[key]}, but {section}.{key} is {value}; leave it out and "
                "it is chosen."
            )
