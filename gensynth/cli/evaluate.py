"""`gensynth evaluate`."""

import json
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


def evaluate(
    samples: str = typer.Argument(..., help="Folder of pictures, or .npz with arr_0."),
    reference: str = typer.Option(
        ..., "--reference", help="Folder, .npz, .parquet or fashion_mnist:test."
    ),
    num: int = typer.Option(None, "--num", "-n", help="Samples to use. [default: all]"),
    size: int = typer.Option(None, "--size", help="Bring the reference to squares of this size."),
    fit: str = typer.Option("crop", "--fit", help="How: crop or pad."),
    out: Path = typer.Option(None, "--out", "-o", help="Write the report here as JSON."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Measure how far samples are from real images, beside what real images score.

    gensynth evaluate samples --reference fashion_mnist:test
    """
    from gensynth.errors import UsageError

    if fit not in ("crop", "pad"):
        raise UsageError(f"--fit must be crop or pad, got {fit!r}.")
    from gensynth.evaluation.evaluate import evaluate as run
    from gensynth.evaluation.evaluate import summary, write_report
    from gensynth.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)
        report = run(samples, reference, num, size, fit, lambda count: bar.advance(task, count))
    print(json.dumps(report, indent=1) if as_json else summary(report))
    if out is not None:
        write_report(report, out)
