"""`gensynth config`."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("config")(config)


def config(
    file: Path = typer.Argument(..., help="YAML file of the experiment."),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", show_default=False),
) -> None:
    """Print an experiment with all its defaults, after checking it."""
    from gensynth.experiments.read import load_experiment

    print(load_experiment(file, overrides or []).to_yaml(), end="")
