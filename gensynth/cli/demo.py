"""`gensynth demo`, which `make demo` runs."""

from pathlib import Path

import typer

from gensynth.system.disk import check_writable


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    out: Path = typer.Option(
        None, "--out", "-o", help="Folder. [default: runs/demo or runs/demo-masked]"
    ),
    masked: bool = typer.Option(False, "--masked", help="A tokenizer and a MaskGIT instead."),
    quick: bool = typer.Option(False, "--quick", help="A few steps, to see that all of it runs."),
) -> None:
    """Train a small model, draw a grid, measure it: eight minutes.

    A DiCo of emoji, or with --masked a tokenizer and a MaskGIT of Fashion-MNIST, which also edits
    images.
    """
    folder = out or Path("runs/demo-masked" if masked else "runs/demo")
    check_writable(folder)
    from gensynth import demo as demos

    if masked:
        demos.run_masked(folder, quick)
    else:
        demos.run(folder, quick)
