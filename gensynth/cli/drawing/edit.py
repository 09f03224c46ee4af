"""`gensynth edit`."""

from pathlib import Path
from typing import Any

import typer

from gensynth.cli.options import LORA, VARIANT, drawing_options
from gensynth.models.known import check_area
from gensynth.pretrained import TOKENS
from gensynth.settings import OF_THE_WALK, Settings
from gensynth.values import read_size


def register(app: typer.Typer) -> None:
    app.command("edit")(
        drawing_options(edit, without=("size", "strategy", "strategy_options", *OF_THE_WALK))
    )


def edit(
    image: Path = typer.Argument(..., metavar="IMAGE", help="The picture."),
    mask: Path = typer.Option(
        None, "--mask", help="Picture of the same size, white (or painted) where to redraw."
    ),
    label: str = typer.Option(
        None, "--label", help="Class of the redrawn part. [default: no class]"
    ),
    prompt: str = typer.Option(
        None, "--prompt", metavar="TEXT", help="Instead, for models of prompts: what it shows."
    ),
    outpaint: str = typer.Option(
        None, "--outpaint", metavar="N|HxW", help="Pixels of a larger canvas to fill."
    ),
    anchor: str = typer.Option(
        "center", "--anchor", help="Where the picture lies on it: center, top, top-left, ..."
    ),
    strength: float = typer.Option(
        None,
        "--strength",
        help="Share of the masked tokens to redraw. [default: 1, or 0.5 without mask and canvas]",
    ),
    num_variants: int = typer.Option(1, "--num-variants", "-n", help="Number of results."),
    seed: int = typer.Option(0, "--seed", help="Seed of the first result."),
    similar: bool = typer.Option(
        False, "--similar", help="Take seed, seed + 1, ...; not those that differ most."
    ),
    settings: Settings = Settings(),
    edge: int = typer.Option(
        None, "--edge", help="Pixels inside the mask that are blended. [default: 1/4 token]"
    ),
    model: str = typer.Option(TOKENS, "--model", help="A model of tokens."),
    variant: str = VARIANT,
    lora: list[str] = LORA,
    batch_size: int = typer.Option(16, "--batch-size", "-b", help="Pictures drawn together."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder, or for one result a .png or .webp."),
) -> None:
    """Redraw a part of a picture, enlarge it, or draw variations.

    gensynth edit shirt.png --mask sleeves.png --label Pullover --num-variants 6 --out pullovers

    --outpaint fills a larger canvas. Outside the mask no pixel changes (transparency is laid over
    white and 16 bits become 8 before). Without --mask and --outpaint the whole picture is varied;
    --strength 0.3 keeps most of it. Of four times as many seeds those are drawn to the end whose
    results promise to differ most. A folder also gets sheet.png: the picture, what is redrawn in
    red, the results.
    """
    canvas = None if outpaint is None else read_size(outpaint, "--outpaint")
    if canvas is not None:
        check_area(*canvas)
    shown = label if prompt is None else prompt.strip() or None
    changes: dict[str, Any] = {"label": shown, "strength": strength, "outpaint": canvas}
    changes |= {"anchor": anchor, "edge": edge}
    changes["settings"] = settings
    from gensynth.preflight import editing
    from gensynth.preflight.adapters import check_adapters
    from gensynth.preflight.drawing import check_model

    editing.check_place(num_variants, seed, batch_size, out)
    for picture in filter(None, (image, mask)):
        editing.check_picture(picture)
    editing.check_change(anchor, strength, edge)
    adapters = check_adapters(model, lora)
    check_model(model, settings, label, () if prompt is None else (prompt,), adapters)
    editing.check_tokens(model)
    from gensynth.sampling.edits import EditJob, run

    job = EditJob(
        model, image, mask, num_variants, seed, similar, batch_size, changes, variant, adapters
    )
    print(run(job, out))
