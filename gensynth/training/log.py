"""What a run tells: a progress bar or plain lines, `log.jsonl`, TensorBoard and `status.json`."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_SECONDS = 10.0  # between lines where there is no terminal


def interactive() -> bool:
    """Whether a moving bar makes sense: a terminal, and not CI."""
    return sys.stderr.isatty() and "CI" not in os.environ


def progress_bar(*columns: str) -> Progress:
    """A bar on stderr with "done/total", time left and further text columns of task fields."""
    texts = [TextColumn(f"{{task.fields[{name}]}}") for name in columns]
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *texts,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not interactive(),
    )


class TrainingLog:
    """Writes the log of one run; in all but the main process it does nothing.

    Args:
        folder: output folder of the run.
        start, total: the first step of this session and the number of steps of the run.
    """

    def __init__(self, folder: Path, start: int, total: int, enabled: bool = True):
        self.folder, self.total, self.enabled = folder, total, enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.file = self._reopened(folder / "log.jsonl", start)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
        self.bar = progress_bar("loss", "rate")
        self.task: TaskID = self.bar.add_task(
            "training", total=total, completed=start, loss="", rate=""
        )
        self.bar.start()
        self.printed = time.monotonic()
        self.session_start, self.session_first = time.monotonic(), start

    def _reopened(self, path: Path, start: int) -> TextIO:
        # A run killed after its last checkpoint has logged steps that are about to be repeated,
        # and its last line may be cut off.
        lines = path.read_text(encoding="utf-8").splitlines(True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start]
        path.write_text("".join(kept), encoding="utf-8")
        return path.open("a", encoding="utf-8")

    def record(self, step: int, values: dict[str, float]) -> None:
        """Logs values (loss, lr, images_per_second, data_wait, ...) after `step` steps."""
        if not self.enabled:
            return
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(f"train/{name}", value, step)
        loss, rate = f"loss {values['loss']:.4f}", f"{values['images_per_second']:.0f} images/s"
        self.bar.update(self.task, completed=step, loss=loss, rate=rate)
        now = time.monotonic()
        if not interactive() and (now - self.printed > PLAIN_SECONDS or step == self.total):
            self.printed = now
            seconds = (now - self.session_start) / max(1, step - self.session_first)
            left = time.strftime("%H:%M:%S", time.gmtime(seconds * (self.total - step)))
            self.say(f"step {step}/{self.total}  {loss}  {rate}  {left} left")

    def say(self, message: str) -> None:
        """One line for the user, above the bar."""
        if self.enabled:
            self.bar.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def status(self, state: str, **details: Any) -> None:
        """Replaces `status.json`: launchers hide exit codes, this file does not."""
        if not self.enabled:
            return
        temporary = self.folder / "status.json.tmp"
        temporary.write_text(json.dumps({"state": state, "time": time.time(), **details}) + "\n")
        temporary.replace(self.folder / "status.json")

    def close(self) -> None:
        if self.enabled:
            self.bar.stop()
            self.board.close()
            self.file.close()
