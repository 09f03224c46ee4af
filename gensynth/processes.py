"""The processes of a launch, as accelerate sees them."""

import signal

import torch
from accelerate import PartialState

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # what ends a program


def processes() -> PartialState:
    """Rank, device and barrier of this process.

    Without a GPU, accelerate takes several processes for as many single ones unless it is told to
    use the CPU. The first call decides for the whole program, also for `Accelerator`.
    """
    return PartialState(cpu=not torch.accelerator.is_available())


def ignore_signals(_worker: int) -> None:
    """For data workers: Ctrl-C reaches the whole process group, but only the main process acts."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
