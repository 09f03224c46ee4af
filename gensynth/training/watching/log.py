"""What a run reports: a progress bar or plain lines, `log.jsonl`, TensorBoard and `status.json`."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.progress import TaskID

from gensynth.files import read_json_lines, write_text
from gensynth.progress import interactive, progress_bar

STATUS = "status.json"
PLAIN_SECONDS = 10.0  # between lines where there is no terminal


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
        # purge_step: TensorBoard hides what an earlier session logged of steps to be repeated
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
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
        entries = read_json_lines(path)
        kept = [json.dumps(entry) + "\n" for entry in entries if entry["step"] <= start]
        write_text(path, "".join(kept))
        return path.open("a", encoding="utf-8")

    def record(self, step: int, values: dict[str, float]) -> None:
        """Logs values (loss, lr, images_per_second, data_wait, ...) after `step` steps."""
        if not self.enabled:
            return
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()  # so that a killed run has lost no line
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

    def evaluated(self, step: int, key: str, value: float, message: str) -> None:
        """Logs a number of an evaluation after `step` steps, and says it in words."""
        if self.enabled:
            self.board.add_scalar(f"evaluation/{key}", value, step)
            self.say(f"step {step}/{self.total}  {message}")

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A second bar for work beside the training; calling the result moves it."""
        if not self.enabled:
            yield lambda count: None
            return
        task = self.bar.add_task(what, total=total, loss="", rate="")
        try:
            yield lambda count: self.bar.advance(task, count)
        finally:
            self.bar.remove_task(task)

    def say(self, message: str) -> None:
        """One line for the user, above the bar."""
        if self.enabled:
            self.bar.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self.enabled:
            self.bar.stop()
            self.board.close()
            self.file.close()


def write_status(folder: Path, state: str, step: int, message: str = "") -> None:
    """Replaces `status.json`: launchers hide exit codes, this file does not."""
    content = {"state": state, "step": step, "time": time.time(), "message": message}
    write_text(folder / STATUS, json.dumps(content) + "\n")
