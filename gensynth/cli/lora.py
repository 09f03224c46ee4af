"""`gensynth lora merge`."""

from pathlib import Path

import typer

from gensynth.errors import RefusedError
from gensynth.lora.folder import Wanted


def register(app: typer.Typer) -> None:
    lora = typer.Typer(help="Adapters that runs with a lora: section train.", no_args_is_help=True)
    lora.command("merge")(merge)
    app.add_typer(lora, name="lora")

    @lora.callback()
    def _options() -> None:
        pass


def merge(
    base: str = typer.Argument(help="The model that the adapter was trained on."),
    adapters: list[str] = typer.Argument(
        metavar="FOLDER[:SCALE]...", help="Adapters, or the runs that trained them."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the merged model."),
) -> None:
    """Write a model with adapters in its weights, which draws as fast as any other.

    gensynth lora merge dico-nano-fashion runs/mine:0.8 --out merged
    """
    from gensynth.preflight.adapters import check_adapters
    from gensynth.system.disk import check_writable

    wanted: tuple[Wanted, ...] = check_adapters(base, adapters)
    check_writable(out)
    if out.exists() and any(out.iterdir()):
        raise RefusedError(f"{out} is a folder that is not empty; choose another --out.")
    from gensynth.files import new_folder
    from gensynth.pipelines.loading import load
    from gensynth.sampling.outputs import reporting_write_errors

    pipeline = load(base, "cpu", lora=wanted)
    with reporting_write_errors(out), new_folder(out) as folder:
        pipeline.save_pretrained(folder)
    print(out)
    print(f"sample: gensynth sample --model {out}")
