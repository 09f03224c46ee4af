"""`gensynth ops tune`."""

import typer

from gensynth import outline
from gensynth.errors import UsageError


def register(app: typer.Typer) -> None:
    ops = typer.Typer(help="The operators with kernels of their own.", no_args_is_help=True)
    ops.command("tune")(tune)
    app.add_typer(ops, name="ops")

    @ops.callback()
    def _options() -> None:
        pass


def tune(
    operators: list[str] = typer.Argument(None, help="Which operators; default: all."),
) -> None:
    """Measure launches of the kernels on this GPU and keep the fastest for later runs."""
    known = outline.literal("gensynth.ops.operators", "NAMES")
    for name in operators or ():
        if name not in known:
            raise UsageError(f"no operator {name!r}; known: {', '.join(known)}.")
    from gensynth.ops.tuning import tune as run

    for row in run(operators or None):
        print(row)
