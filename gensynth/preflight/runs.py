"""Orders about the folder of a training run."""

from pathlib import Path

from gensynth import outline
from gensynth.errors import InputError


def check_run(run: Path) -> None:
    """
    Raises:
        InputError: the folder is not one of a run.
    """
    file = outline.literal("gensynth.training.session.output", "EXPERIMENT")
    if not (run / file).is_file():
        raise InputError(f"{run} is not the output folder of a run: there is no {file}.")
