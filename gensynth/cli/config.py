"""`gensynth config`."""

import typer

from gensynth.errors import UsageError

CONFIG_HELP = "YAML file of the experiment, or the name of one that comes along."


def register(app: typer.Typer) -> None:
    app.command("config")(config)


def config(
    file: str = typer.Argument(None, metavar="[FILE]", help=CONFIG_HELP),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", show_default=False),
    list_all: bool = typer.Option(False, "--list", help="Name the experiments that come along."),
) -> None:
    """Print an experiment with all its defaults, after checking it.

    gensynth config fashion_mnist/dico_nano > mine.yaml
    """
    if list_all:
        from gensynth.config.shipped import shipped_configs

        print("\n".join(shipped_configs()))
        return
    if file is None:
        raise UsageError("give a YAML file or a name; gensynth config --list names what there is.")
    from gensynth.experiments.read import load_experiment

    print(load_experiment(file, overrides or []).to_yaml(), end="")
