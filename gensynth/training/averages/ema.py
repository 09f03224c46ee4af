"""Running averages of a model's weights: several decay rates and power functions at once."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gensynth.config import EMA
from gensynth.training.averages.posthoc import power_beta
from gensynth.training.averages.snapshots import write_snapshot

MODEL_FILE = Path("model", "model", "diffusion_pytorch_model.safetensors")  # in a checkpoint
AVERAGES = "averages"  # folder of the averages that are not in `model/`


def decay_name(decay: float) -> str:
    return f"decay-{decay!r}"


def std_name(std: float) -> str:
    return f"std-{std:.3f}"


@dataclass
class Average:
    """One average; `beta(n)` is the share that it keeps of itself in update n = 1, 2, ..."""

    name: str
    beta: Callable[[int], float]
    tensors: list[Tensor]

    @torch.no_grad()
    def update(self, weights: list[Tensor], number: int) -> None:
        """Takes in `weights` as update `number`."""
        # one launch for all tensors instead of one for each
        torch._foreach_lerp_(self.tensors, weights, 1 - self.beta(number))


def decay_beta(decay: float, warmup: bool, number: int) -> float:
    """Share that an average of `decay` keeps: 0 in the first update, less while it warms up."""
    if number == 1:  # the average is the first weights, not their random start
        return 0.0
    return min(decay, number / (9 + number)) if warmup else decay


class WeightAverage:
    """The averages of `model`'s weights that `config` asks for; nothing is averaged if it is None.

    The first is the one that `applied` shows, and that the checkpoints' `model/` holds.

    Args:
        frozen: names of weights that are not trained; they are their own average.
        apart: whether the first is stored like the others, since `model/` has it merged.
    """

    def __init__(
        self,
        model: nn.Module,
        config: EMA | None,
        frozen: Collection[str] = (),
        apart: bool = False,
    ):
        self.model, self.apart = model, apart
        self.num_updates = 0
        trained = {n: weight for n, weight in model.named_parameters() if n not in frozen}
        self.names = list(trained)
        self.weights: list[Tensor] = list(trained.values())
        self.averages: list[Average] = []
        self.powers: list[Average] = []  # those that other widths can be reconstructed from
        if config is None:
            return
        for decay in config.decays:
            self._add(decay_name(decay), partial(decay_beta, decay, config.warmup))
        for std in config.stds or []:
            self._add(std_name(std), partial(power_beta, std))
        self.powers = self.averages[len(config.decays) :]

    def _add(self, name: str, beta: Callable[[int], float]) -> None:
        copies = [weight.detach().clone() for weight in self.weights]
        self.averages.append(Average(name, beta, copies))

    def update(self) -> None:
        """Takes in the weights of one optimiser step."""
        self.num_updates += 1
        for average in self.averages:
            average.update(self.weights, self.num_updates)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the first average and is in eval mode inside the block."""
        training = self.model.training
        self.model.eval()
        self._swap()
        try:
            yield
        finally:
            self._swap()
            self.model.train(training)

    def _swap(self) -> None:
        # Exchanges storages: no copy, and optimiser and wrappers keep their parameters.
        for average in self.averages[:1]:
            for weight, tensor in zip(self.weights, average.tensors, strict=True):
                weight.data, tensor.data = tensor.data, weight.data

    def finite(self) -> bool:
        """Whether every weight and every average is finite; waits for the device once."""
        tensors = [*self.weights, *(t for average in self.averages for t in average.tensors)]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def save(self, checkpoint: Path) -> None:
        """Writes every average that `model/` does not hold into `checkpoint/averages/`."""
        for average in self.averages[0 if self.apart else 1 :]:
            (checkpoint / AVERAGES).mkdir(exist_ok=True)
            tensors = {name: tensor.contiguous() for name, tensor in self._named(average)}
            save_file(tensors, checkpoint / AVERAGES / f"{average.name}.safetensors")

    def load(self, checkpoint: Path, num_updates: int) -> None:
        """Continues from a checkpoint: the first average from its model, the others from theirs."""
        for index, average in enumerate(self.averages):
            other = Path(AVERAGES, f"{average.name}.safetensors")
            saved = load_file(checkpoint / (other if index or self.apart else MODEL_FILE))
            for name, tensor in self._named(average):
                tensor.copy_(saved[name])
        self.num_updates = num_updates

    def write_snapshots(self, run: Path, step: int) -> None:
        """Writes the power-function averages of `step` into the snapshots of a run."""
        for average in self.powers:
            write_snapshot(run, step, average.name, dict(self._named(average)), self.num_updates)

    def _named(self, average: Average) -> Iterator[tuple[str, Tensor]]:
        return zip(self.names, average.tensors, strict=True)
