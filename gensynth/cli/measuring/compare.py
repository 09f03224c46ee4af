"""`gensynth compare`."""

from pathlib import Path

import typer

from gensynth.system.disk import check_writable


def register(app: typer.Typer) -> None:
    app.command("compare")(compare)


def compare(
    runs: list[str] = typer.Argument(
        help="metrics.json of evaluate or a folder with one, or the folder of a training run."
    ),
    out: Path = typer.Option(
        None, "--out", "-o", help="Folder for comparison.json, comparison.md and comparison.png."
    ),
    force: bool = typer.Option(
        False, "--force", help="Show also what is unlike, without ranking it."
    ),
) -> None:
    """Put the numbers of several evaluations or runs side by side.

    gensynth compare reports/dico reports/dit

    gensynth compare runs/dico runs/dit --out comparison

    Differences are told in standard errors. Training runs that were evaluated on the way are
    compared at equal numbers of images and at equal time. Numbers of other extractors, references,
    sample counts or protocols are not ranked.
    """
    from gensynth.preflight.measuring import numbers_file

    for place in runs:
        numbers_file(Path(place))
    if out is not None:
        check_writable(out)
    from gensynth.evaluation.comparing.compare import compare as run
    from gensynth.evaluation.comparing.output import print_comparison, write_comparison

    comparison = run(runs, force)
    print_comparison(comparison)
    if out is not None:
        for path in write_comparison(comparison, out):
            print(path)
