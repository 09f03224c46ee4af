"""`gensynth models`."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from gensynth.models.catalogue import Entry


def register(app: typer.Typer) -> None:
    app.command("models")(models)


def models(
    contains: str = typer.Argument("", metavar="[NAME]", help="Only names that contain this."),
    mixer: str = typer.Option(None, "--mixer", help="Count them with this token mixer."),
    json_output: bool = typer.Option(False, "--json", help="Print a JSON list instead."),
) -> None:
    """List the models: parameters, FLOPs, papers, published FIDs and weights."""
    import json
    from dataclasses import asdict

    from gensynth.errors import UsageError
    from gensynth.models import MODELS
    from gensynth.models.catalogue import entries, names
    from gensynth.progress import progress_bar

    if not names(contains):
        raise UsageError(f"no model's name contains {contains!r}. Known: {', '.join(MODELS)}.")
    found: list[Entry] = []
    with progress_bar(transient=True) as bar:
        task = bar.add_task("counting", total=len(names(contains)))
        for one in entries(contains, mixer):
            found.append(one)
            bar.advance(task)
    if json_output:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        print_table(found)


def print_table(found: "list[Entry]") -> None:
    from rich.console import Console
    from rich.table import Table

    numbers = ("parameters", "GFLOPs 256", "512", "tokens")
    table = Table(
        title="GFLOPs: multiply-adds of a forward pass at 256 and 512 pixels; in 8x latents, "
        "MaskGIT in 16x tokens, VQ encoding and decoding",
        caption="–: not published, or not found where we looked. --json has the full addresses.",
    )
    for column in ("model", *numbers, "mixer", "paper", "FID at 256", "weights"):
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for one in found:
        table.add_row(
            one.name,
            f"{one.parameters / 1e6:.1f} M",
            f"{one.gflops_256:.2f}",
            f"{one.gflops_512:.2f}",
            str(one.tokens_256),
            one.mixer,
            one.paper,
            one.published_fid or "–",
            "/".join(one.weights.split("/")[2:5]) or "–",
        )
    console = Console()
    # A table that does not fit is better long than with its columns cut off.
    console.width = max(console.width, 170)
    console.print(table)
