"""Processes of their own for tests, alone or several together as torchrun starts them.

They are forks of one that has imported torch and the training, which takes longer than what most
tests do in them.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

from torch.distributed import TCPStore

ROOT = Path(__file__).parents[2]
GRACE_SECONDS = 30
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "gensynth.cli",
        "gensynth.evaluation.evaluate",
        "gensynth.pipelines.class_conditional",
        "gensynth.sampling.job",
        "gensynth.training.averages.export",
        "gensynth.training.loop",
    ]
)


def command(*arguments: str) -> None:
    """`gensynth ARGUMENTS`."""
    from gensynth.cli import main

    sys.argv = ["gensynth", *arguments]
    main(list(arguments))


def training(config: Path, *overrides: str) -> tuple[str, ...]:
    """The arguments of the command that trains."""
    return ("train", "--config", str(config), *overrides)


def _work(rank: int, folder: Path, environment: dict, function: Callable, arguments: tuple) -> None:
    # As in any other run. Workers of a fork server outlive a killed run, as it does itself.
    multiprocessing.set_start_method("fork", force=True)
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        file = os.open(folder / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, stream.fileno())
    function(*arguments)


class Launch:
    """`function(*arguments)` in so many processes; it must be importable.

    Use it as a context, which kills what still runs.
    """

    def __init__(self, function: Callable, *arguments: str, processes: int = 1):
        self.folder = Path(tempfile.mkdtemp(prefix="gensynth-tests-"))
        self.store = None
        self.processes = []
        for rank in range(processes):
            environment = dict(os.environ)
            if processes > 1:
                environment |= self._torchrun(rank, processes)
            job = (rank, self.folder, environment, function, arguments)
            self.processes.append(CONTEXT.Process(target=_work, args=job))
            self.processes[-1].start()

    def _torchrun(self, rank: int, count: int) -> dict[str, str]:
        """What torchrun tells a process; like its agent, we keep the store where they meet."""
        if self.store is None:
            self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        return {
            **{name: str(rank) for name in ("RANK", "LOCAL_RANK")},
            **{name: str(count) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *raised) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        shutil.rmtree(self.folder)

    @property
    def running(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def send(self, number: int) -> None:
        for process in self.processes:
            os.kill(process.pid, number)

    def finish(self, timeout: float = 300) -> subprocess.CompletedProcess:
        """Waits for the end; the failure of one process ends the others."""
        deadline = time.monotonic() + timeout
        while self.running:
            left = deadline - time.monotonic()
            alive = [process for process in self.processes if process.is_alive()]
            assert wait([process.sentinel for process in alive], left), f"no end: {self._said()}"
            if any(process.exitcode for process in self.processes):
                for process in alive:
                    process.terminate()
                    process.join(GRACE_SECONDS)
                    process.kill()  # as torchrun's agent does
                    process.join()
        codes = [process.exitcode for process in self.processes]
        failed = [code for code in codes if code and code != -15]
        code = failed[0] if failed else next(filter(None, codes), 0)
        return subprocess.CompletedProcess([], code, *self._said())

    def _said(self) -> tuple[str, str]:
        return tuple(
            "".join(path.read_text() for path in sorted(self.folder.glob(f"{name}-*")))
            for name in ("stdout", "stderr")
        )


def launch(
    function: Callable, *arguments: str, processes: int = 1, timeout: float = 300
) -> subprocess.CompletedProcess:
    """What came of it."""
    with Launch(function, *arguments, processes=processes) as started:
        return started.finish(timeout)
