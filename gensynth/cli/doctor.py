"""`gensynth doctor`."""

import typer


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor() -> None:
    """Print what this machine has, and which kernels run on it and why."""
    from rich.console import Console
    from rich.table import Table

    from gensynth.ops.doctor import describe_machine, describe_operators

    for name, found in describe_machine():
        print(f"{name:14} {found}")
    table = Table(title="What operators run here, in bfloat16")
    for column in ("operator", "called by", "runs"):
        table.add_column(column)
    for row in describe_operators():
        table.add_row(*row)
    Console(width=120).print(table)
