"""Progress on stderr: a moving bar in a terminal, nothing that moves elsewhere."""

import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def interactive() -> bool:
    """Whether a moving bar makes sense: a terminal, and not CI."""
    return sys.stderr.isatty() and "CI" not in os.environ


def progress_bar(*columns: str, transient: bool = False) -> Progress:
    """A bar on stderr with "done/total", time left and further text columns of task fields.

    A `transient` one disappears when it is done.
    """
    texts = [TextColumn(f"{{task.fields[{name}]}}") for name in columns]
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *texts,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not interactive(),
        transient=transient,
    )
