"""The processes of a launch, as accelerate sees them."""

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Rank, device and barrier of this process.

    Without a GPU, accelerate takes several processes for as many single ones unless it is told to
    use the CPU. The first call decides for the whole program, also for `Accelerator`.
    """
    return PartialState(cpu=not torch.accelerator.is_available())
