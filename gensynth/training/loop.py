"""Training an experiment from start or checkpoint to end; a session that fails says how."""

from contextlib import suppress
from pathlib import Path

import torch

from gensynth.config import Experiment
from gensynth.errors import (
    DeviceMemoryError,
    GensynthError,
    OutputError,
    Stopped,
)
from gensynth.processes import processes
from gensynth.training.run import Run
from gensynth.training.session import output
from gensynth.training.session.faults import StopRequest
from gensynth.training.watching.log import write_status


def train(experiment: Experiment) -> Path:
    """Runs an experiment to its last step, from its newest checkpoint if there is one.

    Returns the output folder, in which `model/` is the finished pipeline.

    Raises:
        Stopped: SIGTERM or SIGINT came; the state is saved.
        GensynthError: data, disk or loss failed; the message says what to do.
    """
    folder = output.prepare(experiment)
    step, stop = 0, StopRequest()
    try:
        run = Run(experiment, folder, stop)
        try:
            run.resume()
            run.steps()
            run.finish()
        finally:
            step = run.step
            run.batches.close()  # ends the workers, which ignore the signals that end a program
            run.log.close()
    except GensynthError as error:
        note_end(folder, step, error)
        raise
    except torch.OutOfMemoryError as error:
        advice = DeviceMemoryError(
            "out of memory. Try training.gradient_accumulation=2 (or more), "
            "training.gradient_checkpointing=true or training.mixed_precision=bf16."
        )
        note_end(folder, step, advice)
        raise advice from error
    except OSError as error:
        failure = OutputError(
            f"the run in {folder} cannot go on: {error}. What is saved is complete; free some "
            "space or mend the disk, and run the same command to resume."
        )
        note_end(folder, step, failure)
        raise failure from error
    finally:
        stop.release()
    return folder


def note_end(folder: Path, step: int, error: GensynthError) -> None:
    """Says in `status.json` how a session ended; silent on a full disk, where it cannot."""
    state = "stopped" if isinstance(error, Stopped) else "failed"
    if processes().is_main_process:
        with suppress(OSError):
            write_status(folder, state, step, str(error))
