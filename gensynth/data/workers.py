"""Batches that worker processes read ahead, without waiting for one that will never come."""

import errno
import signal
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
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
    iterator = _started(loader, patience)
    in_order, warned = False, False
    try:
        for batch in _patiently(iterator, patience):
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
        # Workers ignore the signals that end a program (`ignore_signals`), and the traceback of an
        # error keeps their iterator alive, so they have to be told; one that hangs does not listen.
        if workers:
            for worker in [] if in_order else iterator._workers:
                worker.kill()
            iterator._shutdown_workers()


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


def _patiently(iterator: Any, patience: Patience) -> Generator[Any]:
    """The batches of an iterator, as long as each comes in time."""
    limit = patience.first or patience.limit
    waited = 0.0  # counted in polls: the time that a machine or a process sleeps is not waiting
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if EXITED in str(error):
                raise _gone(iterator._workers, patience) from error
            if not str(error).startswith(TIMED_OUT):
                raise
        else:
            yield batch
            waited, limit = 0.0, patience.limit
            continue
        patience.watch()
        waited += POLL_SECONDS
        if waited >= limit:
            raise InputError(
                f"the data workers gave nothing for {limit:.0f} seconds: one hangs, or the disk or "
                f"network that they read from. See that the data can be read; {patience.without}"
                f"{patience.longer}."
            )


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
