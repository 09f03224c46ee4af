"""Whether the words of an experiment fit each other. Nothing heavy is imported to find out."""

from pathlib import Path
from typing import Any

from gensynth.conditions import Condition, condition_kind
from gensynth.config import Experiment, Repa
from gensynth.errors import InputError, OutputError, UsageError
from gensynth.experiments.explain import OBJECTIVES, meant
from gensynth.models.known import Known, known, model_names
from gensynth.pretrained import CODECS
from gensynth.samplers.known import check_scheduler
from gensynth.system import hub
from gensynth.system.disk import check_writable

PATTERN = "*?["  # what makes a path a pattern
TRAIN_FIRST = ", or train one first: gensynth train --config fashion_mnist/vq_nano"


def check_names(experiment: Experiment) -> None:
    """Checks what the schema cannot know: the model's own keywords, and that the parts fit.

    Raises:
        UsageError: an unknown model, keyword, condition or scheduler, or one that the objective or
            the data contradict.
    """
    if experiment.objective.name == "distill":
        return  # model and condition are the teacher's
    name, given = experiment.model.name, experiment.model.model_extra or {}
    keywords = known(name).keywords  # raises for an unknown name
    for key in given:
        if key not in keywords:
            hint = meant(["model", key], keywords, experiment.objective.name, name)
            raise UsageError(
                f"unknown key 'model.{key}' for {name}.{hint} Known: {', '.join(keywords)}."
            )
    shown = experiment.condition
    condition = condition_kind(shown.kind).of_experiment(shown, ["one", "two"])  # stand-ins
    _check_parts(experiment)
    _check_condition(experiment, condition)
    _check_contradictions(experiment, given)
    objective, sampling = experiment.objective, experiment.sampling
    if objective.draws:
        path = objective.scheduler_keywords.get("path", "linear")
        check_scheduler(sampling.scheduler, objective.predicts, sampling.scheduler_options, path)


def check_places(experiment: Experiment) -> None:
    """Refuses to go on without files that are to be read, before the readers are imported.

    What can be on the hub, or is a pattern, is left to the readers.

    Raises:
        InputError: nothing is there.
        OutputError: the output folder cannot be made or written.
    """
    _check_output(experiment.output)
    data, codec = experiment.data, experiment.autoencoder
    if data.path is not None and data.source != "hub" and not _may_be_there(data.path):
        missing = {
            "imagefolder": f"is no image folder {data.path}; set data.path to one.",
            "encoded": f"is no folder {data.path}; gensynth encode makes such folders.",
        }
        files = f"are no {data.source} files at {data.path}; set data.path to a file or folder."
        raise InputError(f"there {missing.get(data.source, files)}")
    if codec.path is not None and codec.path not in CODECS and not Path(codec.path).exists():
        first = TRAIN_FIRST if codec.kind == "vq" else ""
        instead = f"set autoencoder.path to a folder or hub id{first}."
        said = f"there is no autoencoder at {codec.path}"
        if not hub.is_id(codec.path):
            raise InputError(f"{said}; {instead}")
        hub.check_copy(codec.path, f"{said}, and as a hub id it", instead.capitalize())
    if data.source == "hub" and not Path(data.path or "").exists():
        hub.check_data(data.path or "")
    for term in experiment.regularizers:
        if isinstance(term, Repa) and term.path is not None:
            check_encoder(term.path)


def _check_output(output: str) -> None:
    if Path(output).is_file():
        raise OutputError(f"output {output} is a file; set output to a folder.")
    check_writable(Path(output), "set output to a folder that can be written")


def check_encoder(path: str) -> None:
    """Whether the encoder that REPA aligns with is there, or on the hub.

    Raises:
        InputError: neither.
    """
    if Path(path).exists():
        return
    said = f"regularizer repa: there is no encoder at {path}"
    instead = "Set its path to the folder of a DINOv2, or its encoder to lite0, which comes along."
    if not hub.is_id(path):
        raise InputError(f"{said}. {instead}")
    hub.check_copy(path, f"{said}, and as a hub id it", instead)


def _may_be_there(path: str) -> bool:
    return any(sign in path for sign in PATTERN) or Path(path).exists()


def _check_parts(experiment: Experiment) -> None:
    """Objective, model and autoencoder have to work on the same thing."""
    objective, codec, wanted = experiment.objective, experiment.autoencoder, ""
    name = experiment.model.name
    own = known(name)
    if not _trains(objective, own):
        trained = {key: section for key, section in OBJECTIVES.items() if key != "distill"}
        others = [key for key, section in trained.items() if _trains(section, own)]
        fitting = [one for one in model_names() if _trains(objective, known(one))]
        takes = f"models of {objective.works_on}" if objective.draws else "tokenizers"
        what = f"one of {own.works_on}" if own.draws else "a tokenizer"
        raise UsageError(
            f"objective {objective.name} trains {takes}, and {name} is {what}: take objective "
            f"{' or '.join(others)}, or one of: {', '.join(fitting)}."
        )
    if own.works_on == "pixels":
        if (codec.kind, codec.patch) != ("none", 1):
            wanted = "autoencoder.kind=none and autoencoder.patch=1"
        if experiment.data.source == "encoded":
            wanted = "a data.source of images"
    elif not own.draws:
        if codec.kind != "kl":
            wanted = "autoencoder.kind=kl and an autoencoder.path, such as taef2"
    elif codec.gives != own.works_on:
        kinds = {"tokens": "vq", "latents": "none or kl"}[own.works_on]
        wanted = f"autoencoder.kind={kinds}"
    if wanted:
        trainer = f"objective {objective.name}" if own.draws else name
        raise UsageError(f"{trainer} trains on {own.works_on}; set {wanted}.")
    if objective.name == "reconstruction" and own.works_on != "pixels" and objective.perceptual:
        raise UsageError(
            f"objective.perceptual compares pixels, and {name} trains on {own.works_on}; set "
            "objective.perceptual=0."
        )


def _trains(objective: Any, model: Known) -> bool:
    """Whether an objective, or the class of one, trains such models."""
    fits = not model.draws or model.works_on == objective.works_on
    return model.draws == objective.draws and fits


def _check_condition(experiment: Experiment, condition: Condition) -> None:
    """The model has to take what the condition gives."""
    if not experiment.objective.draws:
        return  # a tokenizer is told nothing
    name, kind = experiment.model.name, experiment.condition.kind
    if not set(condition.tensors) <= set(known(name).takes):
        fitting = [n for n in model_names() if set(condition.tensors) <= set(known(n).takes)]
        raise UsageError(
            f"condition.kind {kind} gives {', '.join(condition.tensors)}, which {name} does not "
            f"take. Models that do: {', '.join(fitting) or 'none'}."
        )
    if experiment.sampling.guidance != 1 and not condition.has_none:
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
    draws = experiment.objective.draws  # a tokenizer does not, whatever is set
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
    works_on = known(experiment.model.name).works_on
    key = "in_channels" if experiment.objective.draws else "channels"
    if works_on == "latents" and given.get(key, channels) != channels:
        raise UsageError(
            f"model.{key} is {given[key]}, but the latents have {channels} "
            "channels; leave it out and it is chosen."
        )
    chosen = {"codebook_size": ("autoencoder", experiment.autoencoder.codebook_size)}
    if works_on == "pixels":
        chosen = {"channels": ("data", experiment.data.channels)}
    for key, (section, value) in chosen.items():
        if value is not None and given.get(key, value) != value:
            raise UsageError(
                f"model.{key} is {given[key]}, but {section}.{key} is {value}; leave it out and "
                "it is chosen."
            )
