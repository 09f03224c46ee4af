"""`gensynth train`."""

import os
from pathlib import Path
from typing import Any

import typer

from gensynth.cli.config import CONFIG_HELP


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def train(
    config: str = typer.Option(..., "--config", help=CONFIG_HELP),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", show_default=False),
) -> None:
    """Train an experiment; the same command again resumes it.

    gensynth train --config fashion_mnist/dico_nano training.steps=2000

    accelerate launch -m gensynth train --config ... and torchrun -m gensynth train do the same on
    several devices.
    """
    experiment = checked_experiment(config, overrides)
    from gensynth.processes import processes
    from gensynth.training.loop import train as run

    folder = run(experiment)
    if processes().is_main_process:
        print(f"Try: {next_command(experiment, folder)}")


def checked_experiment(config: str, overrides: list[str] | None) -> Any:
    """The experiment; what can be refused without importing anything heavy is refused before."""
    from gensynth.experiments.check import check_model
    from gensynth.experiments.names import check_places
    from gensynth.experiments.read import read_experiment

    experiment = read_experiment(config, overrides or [])
    if os.environ.get("WORLD_SIZE", "1") == "1":
        check_places(experiment)  # several processes ask together: each may see another disk
    check_model(experiment)
    return experiment


def next_command(experiment: Any, folder: Path) -> str:
    """What to do with the model of a finished run."""
    if not experiment.objective.draws:
        given = f"autoencoder.kind=vq autoencoder.path={folder}"
        of_latents = experiment.autoencoder.kind == "kl"
        config = "emoji/maskgit_128" if of_latents else "fashion_mnist/maskgit_nano"
        return f"gensynth train --config {config} {given}"
    return f"gensynth sample --model {folder}"
