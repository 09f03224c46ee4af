"""Guidance: each function wraps a model call `predict(sample, timestep, labels)` into another."""

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]


def classifier_free(
    predict: Predict, scale: float, null_label: int, channels: int | None = None
) -> Predict:
    """Classifier-free guidance (arXiv 2207.12598): null + scale * (conditional - null).

    Args:
        predict: [B, C, H, W], [B], [B] -> [B, C or 2C, H, W]. Channels above C are variances.
        scale: 1 means no guidance and costs no second pass.
        null_label: the label that means "no class".
        channels: how many leading channels are guided; the others keep the conditional value.
            None guides all C. The published DiT, DiC and DiCo numbers guide 3 of 4.

    Raises:
        ValueError: scale below 1.
    """
    if not scale >= 1:  # also refuses NaN
        raise ValueError(f"guidance must be at least 1, got {scale}")
    if scale == 1:
        return predict

    def guided(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        null = torch.full_like(labels, null_label)
        output = predict(
            torch.cat([sample, sample]), torch.cat([timestep, timestep]), torch.cat([labels, null])
        )
        conditional, unconditional = output.chunk(2)
        count = sample.shape[1] if channels is None else channels
        mixed = unconditional[:, :count].lerp(conditional[:, :count], scale)
        return torch.cat([mixed, conditional[:, count:]], dim=1)

    return guided
