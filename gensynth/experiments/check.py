"""Whether the model of an experiment can be built, found out before any data loads."""

from gensynth.config import Distill, Experiment
from gensynth.errors import UsageError


def check_model(experiment: Experiment) -> None:
    """Checks what names cannot tell (`names`): that model, scheduler and regularizers can be made.

    Raises:
        UsageError: a value that the model or scheduler refuses, or that contradicts the data.
    """
    import torch

    from gensynth.experiments.apply import lay_out
    from gensynth.experiments.beginning.tuning import check_tuning
    from gensynth.experiments.build import build_condition, build_model, build_scheduler

    if experiment.objective.name == "distill":
        check_distilled(experiment.objective)
        return
    name, given = experiment.model.name, experiment.model.model_extra or {}
    condition = build_condition(experiment, ["one", "two"])  # stand-ins: no data are open yet
    if experiment.objective.draws:
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
    check_tuning(experiment, model)
    if experiment.regularizers:
        from gensynth.experiments.regularization import check_regularizers

        check_regularizers(experiment, model)


def check_distilled(section: Distill) -> None:
    """Checks what can be known of a distillation without its teacher's weights.

    Raises:
        UsageError: options that the method does not have.
        InputError, RefusedError: there is no such teacher.
    """
    from gensynth.experiments.distilling.teacher import told_by
    from gensynth.linearize.swap import METHODS, check_options, choose

    told_by(section.teacher)  # is there one?
    check_options(METHODS[section.method], section.options)
    if section.weights is None:  # else these bring their own
        choose(METHODS[section.method], section.options)
