"""`gensynth sample`."""

from pathlib import Path
from typing import Any

import typer

from gensynth.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command("sample")(sample)


def sample(
    model: str = typer.Option(
        "dico-nano-fashion", "--model", help="Name, folder of a model or run, or hub id."
    ),
    labels: str = typer.Option(
        None, "--labels", help="Classes in turn: 0-9, 3,5 or names. [default: all]"
    ),
    num: int = typer.Option(40, "--num", "-n", help="Number of pictures."),
    seed: int = typer.Option(0, "--seed", help="Seed of the first picture; the next has seed + 1."),
    steps: int = typer.Option(None, "--steps", help="Model calls. [default: the model's]"),
    guidance: float = typer.Option(
        None, "--guidance", help="Guidance scale from 1 (none). [default: the model's]"
    ),
    guidance_interval: str = typer.Option(
        None,
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="Noise levels, from 0 (data) to 1, where guidance acts. [default: the model's]",
    ),
    guide: str = typer.Option(
        None, "--guide", metavar="MODEL", help="A worse model of the same kind to lead away from."
    ),
    size: str = typer.Option(
        None, "--size", metavar="N|HxW", help="Pixels. [default: the model's]"
    ),
    scheduler: str = typer.Option(None, "--scheduler", help="A fitting scheduler or decoder."),
    option: list[str] = typer.Option(
        [], "--option", metavar="KEY=VALUE", help="Of the scheduler, such as top_k=50; repeatable."
    ),
    batch_size: int = typer.Option(16, "--batch-size", "-b", help="Pictures drawn together."),
    out: Path = typer.Option(None, "--out", "-o", help="Folder. [default: samples/MODEL-HASH]"),
    kind: str = typer.Option("png", "--format", help="png, webp or npz."),
    metadata: bool = typer.Option(True, help="Write each picture's recipe into its file."),
    optimize: bool = typer.Option(
        False, help="Do what draws faster here; pictures may differ by rounding. Says what."
    ),
) -> None:
    """Draw pictures into a folder; the same command again draws what is missing.

    gensynth sample --labels Sneaker,Bag --num 20 --seed 7 --out bags

    torchrun --nproc-per-node 2 -m gensynth sample -n 1000 ... shares the work between processes
    (torchrun takes --num for an option of its own; -n is the same).
    """
    settings: dict[str, Any] = {
        "steps": steps,
        "guidance": guidance,
        "scheduler": scheduler,
        "size": size_of(size, "--size"),
    }
    settings["guidance_interval"] = interval_of(guidance_interval)
    settings["scheduler_options"] = options_of(option)
    from gensynth.processes import processes
    from gensynth.sampling.job import Job, run

    given = {key: value for key, value in settings.items() if value is not None}
    job = Job(model, labels, num, seed, given, batch_size, kind, metadata, guide)
    folder = run(job, out, optimize)
    if processes().is_main_process:
        print(folder)


def size_of(text: str | None, name: str) -> int | tuple[int, int] | None:
    """Pixels of "32" or "32x48"."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise UsageError(f"{name} must look like 32 or 32x48 (height x width), got {text!r}.")
    numbers = [int(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def options_of(texts: list[str]) -> dict[str, Any] | None:
    """Keywords of "top_k=50" and the like."""
    from gensynth.config.yaml_text import parse_yaml

    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--option must look like key=value, got {text!r}.")
        options[key.strip()] = parse_yaml(value, f"--option {text}")
    return options or None


def interval_of(text: str | None) -> tuple[float, float] | None:
    """Two noise levels of "0.2,0.7"."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--guidance-interval must look like 0.2,0.7 (low,high), got {text!r}."
        ) from error
    return low, high
