"""What launched processes do that find themselves in different places, or have workers."""

import multiprocessing
import os
import signal
from pathlib import Path

from launching import command, training

from gensynth.training.run import Run
from gensynth.training.session import output


def from_folders(config: str, *overrides: str) -> None:
    """Trains; each process stands in a folder `rank-N` beside the configuration."""
    own = Path(config).parent / f"rank-{os.environ['RANK']}"
    own.mkdir(exist_ok=True)
    os.chdir(own)
    output.SHOWS_SECONDS = 1.0
    command(*training(Path(config), *overrides))


def stopping_before_its_gradients(*arguments: str) -> None:
    """`gensynth ARGUMENTS`; in step 2 process 1 is stopped where the others wait for it."""
    one_step = Run.one_step

    def stopped(run, batches):
        if run.step == 2 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGSTOP)
        one_step(run, batches)

    Run.one_step = stopped
    command(*arguments)


def with_workers(*arguments: str) -> None:
    """`gensynth ARGUMENTS`, whose data workers are children, as those of a program are."""
    multiprocessing.set_start_method("fork", force=True)
    command(*arguments)
