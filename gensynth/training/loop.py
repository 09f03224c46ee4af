"""Training an experiment from start or checkpoint to end; a session that fails says how."""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from gensynth.config import Experiment
from gensynth.errors import (
    DeviceMemoryError,
    GensynthError,
    OutputError,
    ProcessLost,
    Stopped,
)
from gensynth.processes import processes
from gensynth.training.run import Run
from gensynth.training.session import output
from gensynth.training.session.faults import StopRequest
from gensynth.training.session.together import Together, is_lost, lost
from gensynth.training.watching.log import STATUS, write_status

PATIENCE_SECONDS = 3.0  # for the main process to say how the session ended


def train(experiment: Experiment) -> Path:
    """Runs an experiment to its last step, from its newest checkpoint if there is one.

    Returns the output folder, in which `model/` is the finished pipeline.

    Raises:
        Stopped: a signal asked for it (SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2); the state is
            saved.
        ProcessLost: another process of the launch died or hangs.
        RefusedError: another run writes there, or one with other settings did.
        GensynthError: data, disk or loss failed; the message says what to do.
    """
    stop = StopRequest()
    try:
        processes(experiment.training.timeout)  # whose first call says how long they wait
        together = stop.connect()
        with output.claimed(experiment, together) as folder:
            _session(experiment, folder, stop, together)
    finally:
        stop.release()
    return folder


def _session(experiment: Experiment, folder: Path, stop: StopRequest, together: Together) -> None:
    run: Run | None = None
    told = False  # how it ended
    try:
        run = Run(experiment, folder, stop)
        run.resume()
        run.steps()
        run.finish()
        told = True
    except (GensynthError, RuntimeError, OSError) as error:
        failure = _in_words(error, run, experiment, folder)
        if failure is None:
            raise
        note_end(folder, run.step if run else 0, failure, together)
        told = True
        if failure is error:
            raise
        raise failure from error
    finally:
        if run is not None:
            run.close()
        if not told:
            ended = f"ended by {sys.exc_info()[1]!r}"
            note_end(folder, run.step if run else 0, GensynthError(ended), together)


def _in_words(
    error: Exception, run: Run | None, experiment: Experiment, folder: Path
) -> GensynthError | None:
    """The error as people should see it; None if it is a mistake of ours."""
    if isinstance(error, torch.OutOfMemoryError):
        return DeviceMemoryError(
            "out of memory. Try training.gradient_accumulation=2 (or more), "
            "training.gradient_checkpointing=true or training.mixed_precision=bf16."
        )
    if isinstance(error, RuntimeError) and not isinstance(error, GensynthError):
        error = lost(error, experiment.training.timeout) if is_lost(error) else error
    if isinstance(error, ProcessLost):
        return ProcessLost(f"{error} {run.rescue()}") if run else error
    if isinstance(error, GensynthError):
        return error
    if isinstance(error, OSError):
        return OutputError(
            f"the run in {folder} cannot go on: {error}. What is saved is complete; free some "
            "space or mend the disk, and run the same command to resume."
        )
    return None


def note_end(folder: Path, step: int, error: GensynthError, together: Together) -> None:
    """Says in `status.json` how a session ended; silent on a full disk, where it cannot."""
    state = "stopped" if isinstance(error, Stopped) else "failed"
    with suppress(OSError):
        if not together.is_main:
            if not isinstance(error, ProcessLost):
                return
            # It may be the main process that was lost, and nobody else would say so.
            time.sleep(PATIENCE_SECONDS)
            with suppress(ValueError, KeyError, FileNotFoundError):
                if json.loads((folder / STATUS).read_text())["state"] != "running":
                    return
        write_status(folder, state, step, str(error))
