"""The optimiser, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from gensynth.config import Optimizer


def create_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.AdamW:
    """AdamW over all parameters, fused."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: Optimizer, step: int, total: int) -> float:
    """The rate of step `step` (from 0) of `total`: linear warm-up, then the schedule to zero."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    if config.schedule == "linear":
        return config.lr * (1 - progress)
    return config.lr * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
