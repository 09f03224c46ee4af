"""Processes of one launch that find themselves in different places; `launching` starts them."""

import os
from pathlib import Path

from launching import command, training


def from_folders(config: str, *overrides: str) -> None:
    """Trains; each process stands in a folder `rank-N` beside the configuration."""
    own = Path(config).parent / f"rank-{os.environ['RANK']}"
    own.mkdir(exist_ok=True)
    os.chdir(own)
    command(*training(Path(config), *overrides))
