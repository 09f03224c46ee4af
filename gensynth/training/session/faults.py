"""Signals: stop at the next step with the state saved, also when only the launcher is told to."""

import ctypes
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from gensynth.errors import Stopped
from gensynth.processes import SIGNALS, WARNINGS
from gensynth.training.session.together import Together

PATIENCE_SECONDS = 2.0  # between two Ctrl-C that mean "at once"
_PR_SET_PDEATHSIG = 1


class Abandoned(Exception):
    """Work beside the training was given up because the run should stop."""


class StopRequest:
    """Whether someone asked the run to stop. A second Ctrl-C interrupts at once.

    With several processes, all of them stop after the same step: `agreed()` is true on every rank
    as soon as one of them was asked.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.asked = 0.0
        self.together: Together | None = None
        # What was to be ignored stays ignored, such as the hang-up under nohup.
        heard = [n for n in WARNINGS if signal.getsignal(n) is not signal.SIG_IGN]
        self.previous = {number: signal.signal(number, self._note) for number in (*SIGNALS, *heard)}
        if launched():  # by hand, the terminal's signal reaches this process itself
            _die_with_parent()

    def connect(self) -> Together:
        """Connects the processes, once; from then on they agree."""
        if self.together is None:
            self.together = Together(lambda: self.name is not None)
        return self.together

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Launchers repeat what the terminal already sent to everybody, and their death is a signal
        # too, so only another Ctrl-C by a person counts.
        again = self.name is not None and time.monotonic() - self.asked > PATIENCE_SECONDS
        if number == signal.SIGINT and again:
            raise KeyboardInterrupt
        if self.name is None:
            self.name, self.asked = signal.Signals(number).name, time.monotonic()

    def agreed(self) -> bool:
        """Whether any process was asked to stop. Every process must call this."""
        return self.connect().any(self.name is not None)

    def watch(self, *_progress: object) -> None:
        """Called now and then during long work such as drawing, to give it up.

        Raises:
            Abandoned: this process was asked to stop.
        """
        if self.name is not None:
            raise Abandoned

    def stopped(self, step: int, where: Path) -> Stopped:
        """What to raise after `step` steps, with the state saved in `where`."""
        return Stopped(
            f"stopped at step {step} ({self.name or 'another process'}). "
            f"State saved in {where}. Resume: {command()}"
        )

    def release(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def launched() -> bool:
    """Whether accelerate or torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or any(
        name.startswith("ACCELERATE_") for name in os.environ
    )


def command() -> str:
    """The command that runs this program again, as far as the environment tells."""
    script = f"{_program()} {shlex.join(sys.argv[1:])}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', '1')} {script}"
    return f"accelerate launch {script}" if launched() else script


def _program() -> str:
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return "-m gensynth" if "TORCHELASTIC_RUN_ID" in os.environ else "python -m gensynth"
    if path.name == "gensynth":
        return path.name
    return sys.argv[0] if launched() else f"python {sys.argv[0]}"


def _die_with_parent() -> None:
    """Turns the launcher's death into SIGTERM: `accelerate launch` does not forward signals."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
