"""Where randomness comes from: one generator a picture, one a training step.

A picture's noise is drawn from its own generator on the CPU, so that it depends on its seed only.
A training step's draws are made for the whole global batch and each process takes its rows, so that
the same step sees the same numbers whatever the number of processes or micro-batches.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.whole import whole_number


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of `parts`; other parts give an unrelated seed."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    # 63 bits, the range of `whole_seed`, which an int64 holds
    return int.from_bytes(digest[:8], "little") >> 1


def whole_seed(seed: Any) -> int:
    """The seed of a picture, of Python, numpy or torch, checked.

    Raises:
        UsageError: not a whole number from 0 to 2^63 - 1.
    """
    number = whole_number(seed)
    if number is None or not 0 <= number < 2**63:
        raise UsageError(f"a seed must be a whole number from 0 to 2^63 - 1, got {seed!r}.")
    return number


def picture_generator(seed: int) -> torch.Generator:
    """The generator of one picture, on the CPU on every machine."""
    return torch.Generator().manual_seed(seed)


class StepRandom:
    """The random numbers of rows `start:stop` of the global batch of one training step.

    Args:
        seed: seed of the run.
        step: number of the optimiser step.
        rows: which rows of the global batch this micro-batch holds.
        batch_size: number of rows of the global batch.
        device: where the numbers are drawn; another kind of device draws other numbers.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        rows: slice,
        batch_size: int,
        device: torch.device | str = "cpu",
    ):
        self.seed, self.step = seed, step
        self.rows = rows
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(derived_seed(seed, "step", step))
        # On the CPU: it decides shapes, such as how many tokens are masked, without asking a GPU.
        self.shared = torch.Generator().manual_seed(derived_seed(seed, "shared", step))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [rows, *shape]."""
        # The whole global batch is drawn and cut: every split of it sees the same numbers.
        return torch.randn(self.batch_size, *shape, generator=self.generator, device=self.device)[
            self.rows
        ]

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), [rows, *shape]."""
        return torch.rand(self.batch_size, *shape, generator=self.generator, device=self.device)[
            self.rows
        ]

    def integers(self, high: int) -> Tensor:
        """Whole numbers in 0..high-1, [rows]."""
        return torch.randint(
            high, (self.batch_size,), generator=self.generator, device=self.device
        )[self.rows]

    def all_rows(self) -> "StepRandom":
        """The same numbers from their beginning, of every row of the global batch."""
        rows = slice(0, self.batch_size)
        return StepRandom(self.seed, self.step, rows, self.batch_size, self.device)

    @contextmanager
    def for_dropout(self) -> Iterator[None]:
        """Inside, torch's own generators, which layers draw from, begin anew for these rows.

        So a step that is repeated drops the same; other numbers of processes drop others.
        """
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derived_seed(self.seed, "dropout", self.step, self.rows.start))
            yield

    def apart(self, name: str) -> "StepRandom":
        """Other numbers for the same rows; drawing them leaves those of this object as they are."""
        seed = derived_seed(self.seed, name)
        return StepRandom(seed, self.step, self.rows, self.batch_size, self.device)

    def shared_uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), [*shape], the same in every row of the global batch; on the CPU."""
        return torch.rand(*shape, generator=self.shared)
