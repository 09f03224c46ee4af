"""`gensynth sample`."""

from pathlib import Path

import typer

from gensynth.cli.options import LOAD, LORA, PROMPT_FILE, PROMPTS, VARIANT, drawing_options
from gensynth.pretrained import DEFAULT
from gensynth.settings import Settings

NUM = 40  # pictures, where no prompts say how many


def register(app: typer.Typer) -> None:
    app.command("sample")(drawing_options(sample))


def sample(
    model: str = typer.Option(
        DEFAULT, "--model", help="Name, folder of a model or run, or hub id."
    ),
    variant: str = VARIANT,
    lora: list[str] = LORA,
    load: list[str] = LOAD,
    shown: str = typer.Option(
        None,
        "--labels",
        help="Classes in turn: 0-9, 3,5 or names (gensynth classes lists them). [default: all]",
    ),
    prompt: list[str] = PROMPTS,
    prompts: Path = PROMPT_FILE,
    num: int = typer.Option(
        None, "--num", "-n", help="Number of pictures. [default: one of each prompt, else 40]"
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of the first picture; the next has seed + 1."),
    settings: Settings = Settings(),
    batch_size: int = typer.Option(16, "--batch-size", "-b", help="Pictures drawn together."),
    out: Path = typer.Option(None, "--out", "-o", help="Folder. [default: samples/MODEL-HASH]"),
    kind: str = typer.Option("png", "--format", help="png, webp, tif or npz."),
    metadata: bool = typer.Option(True, help="Write each picture's recipe into its file."),
    optimize: bool = typer.Option(
        False, help="Do what draws faster here; pictures may differ by rounding. Says what."
    ),
) -> None:
    """Draw pictures into a folder; run it again for what is missing.

    gensynth sample --prompt "red apple, fluent" --prompt "cat face, blob" --num 8 --out mine

    gensynth sample --model dico-nano-fashion --labels Sneaker,Bag --num 20 --seed 7

    torchrun --nproc-per-node 2 -m gensynth sample -n 1000 ... shares the work between processes
    (torchrun takes --num for an option of its own; -n is the same).
    """
    from gensynth.conditions.prompt_files import all_prompts
    from gensynth.preflight.adapters import check_adapters
    from gensynth.preflight.drawing import check_model, check_numbers
    from gensynth.preflight.pretrained import check_options
    from gensynth.system.disk import check_writable

    told = all_prompts(prompt, prompts)
    num = (len(told) or NUM) if num is None else num
    check_numbers(num, seed, batch_size, kind)
    options = check_options([model], load)
    adapters = check_adapters(model, lora)
    check_model(model, settings, shown, told, adapters)
    check_writable(out or Path("samples"))
    from gensynth.processes import processes
    from gensynth.sampling.job import Job, run

    how = (settings, batch_size, kind, metadata, variant, told, adapters, options)
    job = Job(model, shown, num, seed, *how)
    folder = run(job, out, optimize)
    if processes().is_main_process:
        print(folder)
