"""The optimiser, and the learning rate as a pure function of the step."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from gensynth.config import Optimizer
from gensynth.training.learning.adan import Adan


def create_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """The optimiser of an `optimizer:` section over all parameters."""
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": partial(torch.optim.AdamW, fused=True),  # one kernel for all weights
        "adan": Adan,
    }
    kind = kinds[config.name]
    if config.betas is not None:
        kind = partial(kind, betas=tuple(config.betas))
    return kind(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(config: Optimizer, step: int, total: int) -> float:
    """The rate of step `step` (from 0) of `total`: linear warm-up, then the schedule to zero."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps  # + 1: the first step learns too
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    if config.schedule == "linear":
        return config.lr * (1 - progress)
    return config.lr * (1 + math.cos(math.pi * progress)) / 2  # half a period


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
