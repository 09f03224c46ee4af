"""`gensynth upscale`."""

from pathlib import Path

import typer

from gensynth.cli.options import LORA, VARIANT, drawing_options
from gensynth.pretrained import DEFAULT
from gensynth.settings import Settings
from gensynth.values import read_growth

OF_STAGES = ("steps", "guidance", "size", "strategy", "timesteps", "timestep_respacing")


def register(app: typer.Typer) -> None:
    app.command("upscale")(drawing_options(upscale, without=OF_STAGES))


def upscale(
    image: Path = typer.Argument(..., metavar="PICTURE", help="The picture."),
    to: str = typer.Option(
        "4x", "--to", metavar="Nx|N|HxW", help="How many times as long, or the size in pixels."
    ),
    prompt: str = typer.Option(
        None, "--prompt", metavar="TEXT", help="What it shows, for models of prompts."
    ),
    label: str = typer.Option(None, "--label", help="What it shows, for models of classes."),
    seed: int = typer.Option(0, "--seed", help="Seed of the details."),
    settings: Settings = Settings(),
    model: str = typer.Option(
        DEFAULT, "--model", help="Name, folder of a model or run, or hub id; not of tokens."
    ),
    variant: str = VARIANT,
    lora: list[str] = LORA,
    out: Path = typer.Option(..., "--out", "-o", help="A .png or .webp."),
) -> None:
    """Enlarge a picture, with details that a model makes.

    gensynth upscale apple.png --to 4x --prompt "red apple, flat" --out large.png

    The picture is enlarged in stages; each adds some noise, which the model takes away again
    (--strategy-option strength=0.4 for more new details). An interrupted command goes on after the
    last finished stage when it is given again.
    """
    from gensynth.preflight import editing
    from gensynth.preflight.adapters import check_adapters
    from gensynth.preflight.drawing import check_model

    growth = read_growth(to)
    editing.check_place(1, seed, 1, out)
    editing.check_file_name(out)
    editing.check_picture(image)
    adapters = check_adapters(model, lora)
    check_model(model, settings, label, () if prompt is None else (prompt,), adapters)
    from gensynth.sampling.upscaling import UpscaleJob, run

    shown = label if prompt is None else prompt
    print(run(UpscaleJob(model, image, shown, growth, seed, settings, variant, adapters), out))
