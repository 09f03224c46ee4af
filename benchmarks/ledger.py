"""Rows of a table that are kept as they are measured, so that a command cut off can go on."""

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gensynth.errors import GensynthError, InputError, Stopped, UsageError
from gensynth.files import write_text
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.machine import synchronize

Row = dict[str, Any]
# What rows measured at different times have to share.
SAME = ("torch", "triton", "miniature")
CUT_OFF = "cut off, or ended the program"


class Ledger:
    """The rows of `name`.json in a folder.

    A row is known by its key, and is measured once for the same device and libraries, and the same
    kernels where it depends on them. What a row failed with is kept in its place; `retry` measures
    it again.

    Args:
        about: when, where and with what; the newest is written beside the rows.
        minutes: no row is started after this.

    Raises:
        UsageError: the file holds rows of another device.
        InputError: the file is not one of ours.
    """

    def __init__(self, folder: Path, name: str, about: Row, minutes: float, retry: bool = False):
        self.path, self.about, self.retry = folder / f"{name}.json", about, retry
        self.deadline = time.monotonic() + 60 * minutes
        self.rows = self.earlier()
        self.left: list[str] = []

    def earlier(self) -> list[Row]:
        """The rows that an earlier command left; of other libraries they are put aside."""
        if not self.path.is_file():
            return []
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            device, rows = content["device"], content["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is no table of results; move it away.") from error
        if device != self.about["device"]:
            raise UsageError(
                f"{self.path} is of {device}, this is {self.about['device']}; give another --out."
            )
        if any(content.get(key) != self.about.get(key) for key in SAME):
            self.path.replace(self.path.with_name(f"{self.path.stem}-earlier.json"))
            return []
        kernels = self.about["kernels"]
        return [row for row in rows if row.get("kernels", kernels) == kernels]

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def find(self, **key: Any) -> Row | None:
        """The row of a key, if there is one."""
        return next((row for row in self.rows if key.items() <= row.items()), None)

    def measure(
        self, work: Callable[[], Row], needs: float = 0.0, kernels: bool = False, **key: Any
    ) -> Row | None:
        """The row of `key`: the one there is, or `key` and what `work` measures.

        None, and a line in `left`, where there is no time for it: the minutes are used up, or less
        than `needs` seconds of them are left.

        Args:
            kernels: whether it is to be measured again when a kernel changes.
        """
        row = self.find(**key)
        if row is not None and not (self.retry and "failed" in row):
            return row
        if self.seconds_left <= needs:
            self.left.append(", ".join(str(value) for value in key.values() if value != ""))
            return None
        if row is not None:
            self.rows.remove(row)
        row = {**key, "date": self.about["date"], "commit": self.about["commit"]}
        row |= {"kernels": self.about["kernels"]} if kernels else {}
        # Stays if the program ends in `work`: the next command goes on behind this row.
        row["failed"] = CUT_OFF
        self.rows.append(row)
        self.save()
        if attempt(row, work):
            self.save()
            gc.collect()  # the error held what the row had in memory
            # After an illegal access nothing works any more in this process: that ends it here.
            synchronize(current_device())
        self.save()
        return row

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({**self.about, "rows": self.rows}, indent=1) + "\n")


def attempt(row: Row, work: Callable[[], Row]) -> bool:
    """Puts what `work` measures into a row, or what it failed with; whether it failed."""
    try:
        found = work()
    except Stopped:  # somebody wants the program to end
        raise
    except failures() as error:
        row["failed"] = told(error)
        return True
    del row["failed"]
    row |= found
    return "failed" in row


def failures() -> tuple[type[BaseException], ...]:
    """What a row may fail with while others can still be measured: CUDA, memory, compilers, us."""
    try:
        from triton.errors import TritonError
    except ModuleNotFoundError:
        return RuntimeError, GensynthError
    return RuntimeError, GensynthError, TritonError


def told(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first.strip()}"[:300]
