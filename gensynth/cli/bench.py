"""`gensynth bench`."""

import typer


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)


def bench(
    seconds: float = typer.Option(10.0, "--seconds", min=0.1, help="How long each line may take."),
) -> None:
    """Measure training and sampling on this machine and print a table."""
    from gensynth_benchmarks.foundation import main as run

    run(seconds)
