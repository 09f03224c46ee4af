"""Guessing masked tokens (MaskGIT, arXiv 2202.04200; Halton-MaskGIT, Trainer/cls_trainer.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.config import Masked
from gensynth.masking import masked_share
from gensynth.objectives.common import Loss, sum_of_passes
from gensynth.seeding import StepRandom


def mask_tokens(tokens: Tensor, progress: Tensor, noise: Tensor, schedule: str) -> Tensor:
    """Which of `tokens` [B, h, w] to mask, bool: each with the share of its image's progress [B].

    Args:
        progress: uniform in [0, 1].
        noise: uniform in [0, 1), [B, h, w].
    """
    return noise < masked_share(schedule, progress)[:, None, None]


def token_loss(
    logits: Tensor, tokens: Tensor, mask: Tensor, masked_only: bool, smoothing: float = 0.0
) -> Tensor:
    """Mean cross entropy of logits [B, N, V + 1] against tokens [B, h, w].

    Args:
        mask: bool [B, h, w], which tokens the model did not see.
        masked_only: the mean is over these; otherwise over all, as Halton-MaskGIT's.
        smoothing: share of the target spread over all tokens.
    """
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), tokens.flatten(), label_smoothing=smoothing, reduction="none"
    )
    if not masked_only:
        return losses.mean()
    chosen = mask.flatten()
    return (losses * chosen).sum() / chosen.sum().clamp(min=1)


class MaskedObjective:
    """Cross entropy of tokens that are masked at random."""

    learns_variance = False

    def __init__(self, config: Masked, mask_token: int):
        self.config, self.mask_token = config, mask_token

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        labels: Tensor,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: tokens int64 [B, h, w], labels [B]."""
        progress = random.uniform()
        losses = [self.one_pass(model, latents, labels, random, progress, p) for p in passes]
        return sum_of_passes(passes, losses)

    def one_pass(
        self,
        model: nn.Module,
        tokens: Tensor,
        labels: Tensor,
        random: StepRandom,
        progress: Tensor,
        keywords: Mapping[str, Any],
    ) -> Loss:
        config = self.config
        noise = random.uniform(*tokens.shape[1:])
        mask = mask_tokens(tokens, progress, noise, config.schedule)
        dropped = random.uniform() < config.label_dropout
        hidden = torch.where(mask, self.mask_token, tokens)
        logits = model(hidden, labels, dropped, **keywords)
        total = token_loss(logits, tokens, mask, config.loss_on == "masked", config.label_smoothing)
        right = (logits.argmax(dim=-1) == tokens.flatten(1)) & mask.flatten(1)
        accuracy = right.sum() / mask.sum().clamp(min=1)
        return Loss(total, {"masked_accuracy": accuracy.detach()})
