"""`gensynth demo`, which `make demo` runs."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    out: Path = typer.Option(Path("runs/demo"), "--out", "-o", help="Folder."),
    quick: bool = typer.Option(False, "--quick", help="A few steps, to see that all of it runs."),
) -> None:
    """Train a small DiCo on Fashion-MNIST, draw a grid, and measure it: about six minutes."""
    from gensynth.demo import run

    run(out, quick)
