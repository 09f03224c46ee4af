"""`gensynth bench`."""

import enum

import typer


class What(enum.StrEnum):
    training = "training"
    models = "models"
    masked = "masked"


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)


def bench(
    what: What = typer.Argument(What.training, help="What to measure; see above."),
    seconds: float = typer.Option(
        10.0, "--seconds", min=0.01, help="How long each measurement may take."
    ),
) -> None:
    """Measure on this machine and print tables.

    training: images a second of training and sampling. models: how the time of each backbone grows
    with the image, and the memory of each token mixer on 65,536 tokens. masked: images a second of
    masked tokens beside diffusion, and what a decoding step spends beside the transformer.
    """
    if what is What.training:
        from gensynth_benchmarks.foundation import main as run
    elif what is What.models:
        from gensynth_benchmarks.models import main as run
    else:
        from gensynth_benchmarks.masked import main as run
    run(seconds)
