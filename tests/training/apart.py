"""What launched processes do that find themselves in different places, or have workers."""

import multiprocessing
import os
from pathlib import Path

from launching import command, training

from gensynth.training.session import output


def from_folders(config: str, *overrides: str) -> None:
    """Trains; each process stands in a folder `rank-N` beside the configuration."""
    own = Path(config).parent / f"rank-{os.environ['RANK']}"
    own.mkdir(exist_ok=True)
    os.chdir(own)
    output.SHOWS_SECONDS = 1.0
    command(*training(Path(config), *overrides))


def with_workers(*arguments: str) -> None:
    """`gensynth ARGUMENTS`, whose data workers are children, as those of a program are."""
    multiprocessing.set_start_method("fork", force=True)
    command(*arguments)
