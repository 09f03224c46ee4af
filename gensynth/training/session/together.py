"""The processes of a launch: what one of them finds out, all act on, and no wait is without end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from gensynth.errors import GensynthError, ProcessLost
from gensynth.processes import processes

T = TypeVar("T")
LIMIT = timedelta(minutes=30)  # one process draws or saves while the others wait
HURRY_SECONDS = 20.0  # for the others, once this process was asked to stop
SETTLE_SECONDS = 5.0  # for what the device was given before a process was lost
# Parts of the messages in which torch says that a process did not come in time, or is gone.
LATE = ("timed out", "timeout")
LOST = ("gloo", "nccl", "connection", "broken pipe", *LATE)


class Together:
    """All processes of a launch; by itself, a single one.

    They meet over a group on the CPU: asking the GPU would make every step wait for it.

    Args:
        asked: whether this process was asked to stop; then it does not wait long for the others.
    """

    def __init__(self, asked: Callable[[], bool] = lambda: False):
        state = processes()
        self.rank, self.count = state.process_index, state.num_processes
        self.is_main, self.asked = state.is_main_process, asked
        several = self.count > 1 and dist.is_available() and dist.is_initialized()
        self.group = dist.new_group(backend="gloo", timeout=LIMIT) if several else None

    def largest(self, number: int) -> int:
        """The largest `number` of all processes. Every process must call this.

        Raises:
            ProcessLost: one of them died, or did not come in time.
        """
        if self.group is None:
            return number
        numbers = torch.tensor([number])
        with losing():
            self._wait(dist.all_reduce(numbers, dist.ReduceOp.MAX, self.group, async_op=True))
        return int(numbers.item())

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process. Every process must call this."""
        return bool(self.largest(int(flag)))

    def barrier(self) -> None:
        """Waits until every process has come here."""
        self.largest(0)

    def gather(self, value: T) -> list[T]:
        """What each process gives, in the order of their ranks. Every process must call this."""
        if self.group is None:
            return [value]
        self.barrier()  # this wait can be given up; what follows is quick
        found: list[Any] = [None] * self.count
        with losing():
            dist.all_gather_object(found, value, self.group)
        return found

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make()` gives in the main process, in all of them. Every process must call this.

        Raises:
            GensynthError: whatever `make()` raised there.
        """
        found: list[Any] = [None, None]
        if self.is_main:
            try:
                found[0] = make()
            except GensynthError as error:
                found[1] = error
        if self.group is not None:
            self.barrier()
            with losing():
                dist.broadcast_object_list(found, 0, self.group)
        if found[1] is not None:
            raise found[1]
        made: T = found[0]
        return made

    def alone(self) -> None:
        """From now on this process asks and waits for nobody."""
        self.group = None

    def _wait(self, work: Any) -> None:
        """Waits for the others in short pauses, in which signals are handled."""
        pause, hurried = 1e-4, 0.0
        while not work.is_completed():
            time.sleep(pause)
            hurried += pause if self.asked() else 0
            if hurried > HURRY_SECONDS:
                raise ProcessLost(
                    f"another process of this launch did not answer for {HURRY_SECONDS:.0f} "
                    "seconds after this one was asked to stop."
                )
            pause = min(2 * pause, 0.05)
        work.wait()  # raises what went wrong


def is_lost(error: RuntimeError) -> bool:
    """Whether an error of torch's means that another process is gone or does not come."""
    said = str(error).lower()
    return isinstance(error, dist.DistError) or any(part in said for part in LOST)


@contextmanager
def losing() -> Iterator[None]:
    """Turns what torch raises in the block for a lost process into a sentence."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise lost(error) from error


def lost(error: RuntimeError, timeout: int | None = None) -> ProcessLost:
    """What to raise for `error`, which `is_lost`; torch's own words are kept as its cause.

    Args:
        timeout: the `training.timeout` of the wait; None of a wait that has another limit.
    """
    if not any(word in str(error).lower() for word in LATE):
        return ProcessLost(
            "another process of this launch ended, or the connection to it broke. Its own message, "
            "if it had time for one, says why; without one it was most likely killed because "
            "memory ran out: data.workers=0 or training.gradient_accumulation=2 (or more) need "
            "less."
        )
    how_long = "in time" if timeout is None else f"for {timeout} seconds"
    allow = "" if timeout is None else " If it was only slow, training.timeout=SECONDS allows more."
    return ProcessLost(
        f"another process of this launch did not answer {how_long}: it hangs, was stopped, or its "
        f"machine cannot be reached. End what is left of it.{allow}"
    )


def settled(device: torch.device) -> bool:
    """Whether a device has done all that it was given; it never will if it waits for the lost."""
    if device.type != "cuda":
        return True
    event = torch.cuda.Event()
    event.record()
    deadline = time.monotonic() + SETTLE_SECONDS
    while not event.query() and time.monotonic() < deadline:
        time.sleep(0.01)
    return event.query()
