"""The processes of a launch, as accelerate sees them."""

import os
import signal
from datetime import timedelta

import torch
from accelerate import PartialState

from gensynth.errors import UsageError

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # what ends a program
# A closed terminal, and what SLURM's --signal sends before the time is up.
WARNINGS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Launches that spread the weights over processes, by the variable that accelerate sets for them.
SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def processes(timeout: float | None = None) -> PartialState:
    """Rank, device and barrier of this process.

    Without a GPU, accelerate takes several processes for as many single ones unless it is told to
    use the CPU. The first call decides for the whole program, also for `Accelerator`.

    Args:
        timeout: seconds that one process waits for another in an exchange of tensors; None for
            the backend's own, 10 minutes on GPUs and 30 on CPUs.

    Raises:
        UsageError: the launch shards the weights, which nothing here gathers again.
    """
    for variable, name in SHARDED.items():
        if os.environ.get(variable, "").lower() in ("true", "1", "yes", "on"):
            raise UsageError(
                f"this is a launch with {name}, which spreads the weights over the processes, and "
                "gensynth cannot gather them for checkpoints yet. Launch plain data parallelism: "
                "accelerate launch --multi_gpu (distributed_type: MULTI_GPU in its config file), "
                f"or torchrun, and without {variable}. For memory: training.mixed_precision=bf16, "
                "training.gradient_checkpointing=true, training.gradient_accumulation=2 or more."
            )
    limit = {} if timeout is None else {"timeout": timedelta(seconds=timeout)}
    return PartialState(cpu=not torch.accelerator.is_available(), **limit)


def ignore_signals(_worker: int) -> None:
    """For data workers: signals reach the whole process group, but only the main process acts."""
    for number in (*SIGNALS, *WARNINGS):
        signal.signal(number, signal.SIG_IGN)
