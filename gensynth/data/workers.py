"""Batches that worker processes read ahead, without waiting for one that will never come."""

import errno
import signal
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import wait as ready
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from gensynth.data.training import Batch
from gensynth.errors import DeviceMemoryError, GensynthError, InputError, OutputError
from gensynth.processes import ignore_signals

POLL_SECONDS = 1.0  # between two looks at the workers and at requests to stop
SHARED = "/dev/shm"  # noqa: S108 - where workers leave their batches
LARGER = "start the container with a larger one (docker run --shm-size=8g)"
END = object()  # after the last batch
TIMED_OUT = "DataLoader timed out"  # torch's words for nothing within its timeout
EXITED = "exited unexpectedly"  # and for a worker that is gone


@dataclass(frozen=True)
class Patience:
    """How long to wait for workers, and what to say when they fail.

    Attributes:
        limit: seconds that a batch may take; `first`: the same for the first one, if it may take
            longer.
        watch: called now and then while nothing comes; what it raises ends the waiting.
        without: how to do without them; `longer`: how to allow more time.
    """

    limit: float = 300.0
    first: float | None = None
    watch: Callable[[], None] = lambda: None
    without: str = "data.workers=0 reads without them"
    longer: str = ""


def read_ahead(
    dataset: Any,
    workers: int,
    device: torch.device,
    patience: Patience = Patience(),
    **options: Any,
) -> Generator[Any]:
    """The batches of a dataset, read ahead by `workers` of a `DataLoader` with `options`.

    Raises:
        DeviceMemoryError: a worker was killed.
        InputError: nothing came in time, or a worker crashed.
        OutputError: there is no room in /dev/shm to begin with.
        GensynthError: what the dataset raises.
    """
    loader = DataLoader(
        dataset,
        num_workers=workers,
        worker_init_fn=ignore_signals,
        prefetch_factor=4 if workers else None,
        timeout=POLL_SECONDS if workers else 0,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
        collate_fn=_handed_over,
        **options,
    )
    if not workers:
        yield from loader
        return
    reader, in_order, warned = _Reader(loader, patience), False, False
    try:
        for batch in reader.batches():
            if _piped(batch) and not warned:
                warned = True
                print(
                    f"warning: {SHARED} is too small for the batches of {workers} data workers; "
                    f"they come through pipes, which is slower. To mend it {LARGER}, or "
                    f"{patience.without}.",
                    file=sys.stderr,
                )
            yield _mapped(batch, _tensor)
        in_order = True
    except GeneratorExit:
        in_order = True
        raise
    except GensynthError as error:
        # From a worker, torch puts its traceback before the message.
        text = str(error).strip().rpartition(f"{type(error).__name__}: ")[2]
        raise type(error)(text) from error
    finally:
        reader.close(in_order)


class _Reader:
    """Asks a loader with workers for batches, and does not wait for ever.

    In a thread: where a batch is taken over from its worker, torch waits without a limit.
    """

    def __init__(self, loader: DataLoader[Any], patience: Patience):
        self.patience = patience
        self.iterator = _started(loader, patience)
        self.thread = ThreadPoolExecutor(1, "batches")
        self.coming: Future[Any] | None = None

    def batches(self) -> Generator[Any]:
        limit = self.patience.first or self.patience.limit
        while (batch := self._next(limit)) is not END:
            yield batch
            limit = self.patience.limit

    def _next(self, limit: float) -> Any:
        """The next batch, or `END`; see `read_ahead` for what it raises."""
        waited = 0.0
        while True:
            since = time.monotonic()
            if self.coming is None:
                self.coming = self.thread.submit(next, self.iterator, END)
            wait([self.coming], POLL_SECONDS)
            if self.coming.done():
                done, self.coming = self.coming, None
                try:
                    return done.result()
                except RuntimeError as error:
                    if EXITED in str(error):
                        raise _gone(self.iterator._workers, self.patience) from error
                    if not str(error).startswith(TIMED_OUT):
                        raise
                except (ConnectionError, EOFError) as error:
                    # One that dies while its batch is taken over; a dataset may fail so too.
                    workers = self.iterator._workers
                    ended = ready([worker.sentinel for worker in workers], POLL_SECONDS)
                    for worker in workers:
                        if worker.sentinel in ended:
                            worker.join(POLL_SECONDS)  # it is closed before there is a code
                    if any(worker.exitcode for worker in workers):
                        raise _gone(workers, self.patience) from error
                    raise
            self.patience.watch()
            # A pause is short: whatever is longer, the process or the machine was asleep.
            waited += min(time.monotonic() - since, 2 * POLL_SECONDS)
            if waited >= limit:
                raise InputError(
                    f"the data workers gave nothing for {limit:.0f} seconds: one hangs, or the "
                    "disk or network that they read from. See that the data can be read; "
                    f"{self.patience.without}{self.patience.longer}."
                )

    def close(self, in_order: bool) -> None:
        """Ends the workers, without asking them if something is wrong."""
        # They ignore the signals that end a program (`ignore_signals`), and the traceback of an
        # error keeps their iterator alive, so they have to be told; one that hangs does not listen.
        for worker in [] if in_order else self.iterator._workers:
            worker.kill()
        if self.coming is not None:
            wait([self.coming], 2 * POLL_SECONDS)
        self.thread.shutdown(wait=False)
        self.iterator._shutdown_workers()
        for worker in self.iterator._workers:
            if worker.is_alive():  # the end of this process would wait for it
                worker.kill()


def _started(loader: DataLoader[Any], patience: Patience) -> Any:
    """The iterator of a loader with its workers running."""
    # torch's own handler raises in the middle of anything, also of an optimiser step, when a worker
    # dies. Here it is noticed where a batch is waited for, which is between steps.
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        iterator = iter(loader)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OutputError(
            f"{SHARED} has no room for data workers: {LARGER}, or {patience.without}."
        ) from error
    if handler is not None and signal.getsignal(signal.SIGCHLD) is not handler:
        signal.signal(signal.SIGCHLD, handler)
    return iterator


def _gone(workers: list[BaseProcess], patience: Patience) -> GensynthError:
    """What to raise when some of the workers have ended by themselves."""
    code, pid = next(((w.exitcode, w.pid) for w in workers if w.exitcode), (None, None))
    if code == -signal.SIGKILL:
        return DeviceMemoryError(
            f"a data worker (process {pid}) was killed, most often because the machine ran out of "
            f"memory. Fewer workers use less, and so does a smaller batch; {patience.without}."
        )
    if code == -signal.SIGBUS:
        return OutputError(
            f"a data worker (process {pid}) found no room in {SHARED}: {LARGER}, or "
            f"{patience.without}."
        )
    ended = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return InputError(
        f"a data worker (process {pid}) crashed ({ended}), as it does when a file brings down the "
        f"library that decodes it; {patience.without}, and shows where."
    )


def _handed_over(batch: Any) -> Any:
    """A batch as a worker sends it: its tensors in shared memory, or if that is full as arrays.

    Left to torch, they are moved there by a thread whose errors nobody hears: the batch is lost.
    """
    if get_worker_info() is None:
        return batch
    try:
        return _mapped(batch, _shared)
    except (RuntimeError, OSError) as error:
        if "shared memory" not in str(error) and SHARED not in str(error):
            raise
        return _mapped(batch, _array)


def _mapped(batch: Any, change: Callable[[Any], Any]) -> Any:
    """A tuple, named or not, of changed fields."""
    fields = [change(field) for field in batch]
    return type(batch)(*fields) if isinstance(batch, Batch) else tuple(fields)


def _shared(field: Any) -> Any:
    return field.share_memory_() if isinstance(field, Tensor) and field.numel() else field


def _array(field: Any) -> Any:
    return field.numpy() if isinstance(field, Tensor) else field


def _tensor(field: Any) -> Any:
    return torch.from_numpy(field) if isinstance(field, np.ndarray) else field


def _piped(batch: Any) -> bool:
    return any(isinstance(field, np.ndarray) for field in batch)
