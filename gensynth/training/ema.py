"""The moving average of a model's weights: diffusers' EMAModel, with names and safe files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from torch import nn

from gensynth.config import EMA


class WeightAverage:
    """The average of `model`'s weights; without a config, the weights themselves."""

    def __init__(self, model: nn.Module, config: EMA | None):
        self.model = model
        self.average = config and EMAModel(
            model.parameters(),
            decay=config.decay,
            min_decay=0.0 if config.warmup else config.decay,
            foreach=True,
        )

    @property
    def num_updates(self) -> int:
        return self.average.optimization_step if self.average else 0

    def update(self) -> None:
        """Takes in the weights of one optimiser step."""
        if self.average:
            self.average.step(self.model.parameters())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the averaged weights and is in eval mode inside the block."""
        training = self.model.training
        self.model.eval()
        if self.average:
            self.average.store(self.model.parameters())
            self.average.copy_to(self.model.parameters())
        try:
            yield
        finally:
            if self.average:
                self.average.restore(self.model.parameters())
            self.model.train(training)

    def finite(self) -> bool:
        """Whether every weight and every average is a number; one wait for the device."""
        tensors = list(self.model.parameters())
        tensors += self.average.shadow_params if self.average else []
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def load(self, weights: Path, num_updates: int) -> None:
        """Continues from the averaged weights saved as a model file."""
        if not self.average:
            return
        saved = load_file(weights)
        device = self.average.shadow_params[0].device
        self.average.shadow_params = [
            torch.empty_like(parameter, device=device).copy_(saved[name])
            for name, parameter in self.model.named_parameters()
        ]
        self.average.optimization_step = num_updates
