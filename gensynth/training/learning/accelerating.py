"""accelerate's view of a run: its device, processes and precision."""

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin

from gensynth.config import Training
from gensynth.errors import UsageError
from gensynth.processes import processes


def create_accelerator(settings: Training) -> Accelerator:
    """The accelerator of a `training:` section.

    Raises:
        UsageError: fp16 without a GPU.
    """
    if settings.mixed_precision == "fp16" and processes().device.type == "cpu":
        raise UsageError(
            "training.mixed_precision=fp16 needs a GPU; use bf16 or no on this machine."
        )
    AcceleratorState._reset_state()  # an earlier run of this process may have set another
    return Accelerator(
        mixed_precision=settings.mixed_precision,
        # The loop accumulates by itself, whatever a launcher puts into the environment.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
