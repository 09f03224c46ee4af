"""Workers that die, hang or find no room; signals to them."""

import os
import signal
import time

import pytest
import torch
from torch.utils import data as torch_data

from gensynth.data.training import Batch
from gensynth.data.workers import Patience, read_ahead
from gensynth.errors import DeviceMemoryError, InputError, OutputError

CPU = torch.device("cpu")
CHUNKS = [[number] for number in range(12)]


class Numbers(torch_data.Dataset):
    """Batches of their number; `fault(number)` is called in the worker before."""

    def __init__(self, fault=lambda number: None):
        self.fault = fault

    def __getitems__(self, numbers):
        self.fault(numbers[0])
        return Batch(torch.full((1, 3, 4, 4), numbers[0]), torch.tensor(numbers), [])


def at(wanted, what):
    """A fault of one batch."""
    return lambda number: what() if number == wanted else None


SHORT = Patience(limit=3.0)


def read(dataset, patience=SHORT, workers=2):
    batches = read_ahead(dataset, workers, CPU, patience, batch_sampler=CHUNKS)
    return [int(batch.labels) for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_batch_comes_in_order(workers):
    assert read(Numbers(), workers=workers) == list(range(12))


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (signal.SIGKILL, DeviceMemoryError, "was killed.*ran out of memory.*without=yes"),
        (signal.SIGBUS, OutputError, "no room in /dev/shm: .*--shm-size=8g.*without=yes"),
        (signal.SIGSEGV, InputError, r"crashed \(signal 11\).*without=yes, and shows where"),
    ],
)
def test_a_dead_worker_ends_the_reading_in_words(number, error, words):
    patience = Patience(limit=30.0, without="without=yes")
    begun = time.monotonic()
    with pytest.raises(error, match=words):
        read(Numbers(at(5, lambda: os.kill(os.getpid(), number))), patience)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("killed", [True, False])
def test_a_connection_that_is_lost_with_a_worker(monkeypatch, killed):
    """A worker may die while its batch is taken over; a dataset may lose a connection itself."""
    from torch.utils.data import dataloader

    def lost(self):
        if killed:
            os.kill(self._workers[0].pid, signal.SIGKILL)
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "_next_data", lost)
    with pytest.raises(DeviceMemoryError if killed else ConnectionResetError):
        read(Numbers())


def test_a_worker_that_ends_by_itself():
    with pytest.raises(InputError, match=r"crashed \(exit code 3\)"):
        read(Numbers(at(5, lambda: os._exit(3))))


def test_death_is_no_exception_in_the_middle_of_something_else():
    batches = read_ahead(Numbers(), 2, CPU, batch_sampler=CHUNKS)
    next(batches)
    before = signal.getsignal(signal.SIGCHLD)
    assert before in (signal.SIG_DFL, signal.SIG_IGN)  # not torch's, which raises anywhere
    batches.close()


@pytest.mark.parametrize("hang", [lambda: time.sleep(60), lambda: os.kill(os.getpid(), 19)])
def test_a_worker_that_hangs(hang):
    """Asleep, or stopped, when it does not hear SIGTERM either."""
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"gave nothing for 2 seconds.*data\.workers=0.*LONGER"):
        read(Numbers(at(4, hang)), Patience(limit=2.0, longer=" LONGER"))
    assert time.monotonic() - begun < 10


def test_the_first_batch_may_take_longer():
    slow = at(0, lambda: time.sleep(3))
    assert read(Numbers(slow), Patience(limit=1.0, first=20.0), workers=1) == list(range(12))


def test_whoever_waits_is_asked_whether_to_go_on():
    class Enough(Exception):
        pass

    def watch():
        raise Enough

    begun = time.monotonic()
    with pytest.raises(Enough):
        read(Numbers(at(2, lambda: time.sleep(60))), Patience(limit=60.0, watch=watch))
    assert time.monotonic() - begun < 10


def test_a_full_dev_shm_only_slows_down(monkeypatch, capsys):
    """What torch says then; its own thread would only print it, and the batch never come."""

    def full(_tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    batches = list(read_ahead(Numbers(), 2, CPU, batch_sampler=CHUNKS))
    assert [int(batch.images[0, 0, 0, 0]) for batch in batches] == list(range(12))
    assert all(isinstance(batch, Batch) and batch.unreadable == [] for batch in batches)
    said = capsys.readouterr().err
    assert said.count("/dev/shm is too small") == 1
    assert "--shm-size" in said and "data.workers=0" in said


def test_other_errors_of_a_worker_are_not_taken_for_it(monkeypatch):
    def broken(_tensor):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch.Tensor, "share_memory_", broken)
    with pytest.raises(RuntimeError, match="something else"):
        read(Numbers())


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM])
def test_workers_ignore_what_the_whole_group_gets(number):
    assert read(Numbers(at(3, lambda: os.kill(os.getpid(), number)))) == list(range(12))
