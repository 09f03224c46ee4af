"""What the log shows: means over steps and processes, speed and waiting."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator


class Meter:
    """Running means on the device, so that no step waits for them.

    Args:
        earlier: seconds of training in earlier sessions of the run.
    """

    def __init__(self, device: torch.device, earlier: float = 0.0):
        self.device, self.earlier = device, earlier
        self.start()

    def start(self) -> None:
        """The training of this session begins now."""
        self.begun = time.perf_counter() - self.earlier
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = self.images = 0
        self.intact = torch.ones((), dtype=torch.bool, device=self.device)
        # how many micro-batches came before the first whose loss was not a number
        self.sound = torch.zeros((), dtype=torch.long, device=self.device)
        self.waited = 0.0
        self.since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the run has been training, over all its sessions."""
        return time.perf_counter() - self.begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count as training."""
        before = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - before
            # both clocks go on from where they stood, as if no time had passed
            self.begun += passed
            self.since += passed

    def add(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.float()
        self.intact = self.intact & values["loss"].isfinite()
        self.sound = self.sound + self.intact
        self.count += 1

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes, images/s and the share of time spent waiting for data."""
        # The process waits for the device here, every `log_every` steps, instead of in every one.
        means = accelerator.reduce(
            {name: value / self.count for name, value in self.sums.items()}, "mean"
        )
        values = {name: float(value) for name, value in means.items()}
        seconds = time.perf_counter() - self.since
        values["images_per_second"] = self.images / seconds
        values["data_wait"] = self.waited / seconds
        self.reset()
        return values
