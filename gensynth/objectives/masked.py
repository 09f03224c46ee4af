"""Guessing masked tokens (MaskGIT, arXiv 2202.04200; Halton-MaskGIT, Trainer/cls_trainer.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.conditions import Conditions, dropped
from gensynth.config import Masked
from gensynth.objectives.common import Loss, Objective, sum_of_passes
from gensynth.samplers.masking import masked_share
from gensynth.seeding import StepRandom


def mask_tokens(tokens: Tensor, progress: Tensor, noise: Tensor, schedule: str) -> Tensor:
    """Which of `tokens` [B, h, w] to mask, bool: each with the share of its image's progress [B].

    Args:
        progress: uniform in [0, 1].
        noise: uniform in [0, 1), [B, h, w].
    """
    return noise < masked_share(schedule, progress)[:, None, None]


def token_loss(
    logits: Tensor,
    tokens: Tensor,
    mask: Tensor,
    masked_only: bool,
    smoothing: float = 0.0,
    count: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy of logits [B, N, V + 1] against tokens [B, h, w].

    Args:
        mask: bool [B, h, w], which tokens the model did not see.
        masked_only: the mean is over these; otherwise over all, as Halton-MaskGIT's.
        smoothing: share of the target spread over all tokens.
        count: number to divide the sum over masked tokens by; None: there are so many.
    """
    losses = F.cross_entropy(  # [B * N]; float32 whatever the model computes in
        logits.flatten(0, 1).float(), tokens.flatten(), label_smoothing=smoothing, reduction="none"
    )
    if not masked_only:
        return losses.mean()
    chosen = mask.flatten()  # [B * N]
    return (losses * chosen).sum() / (chosen.sum().clamp(min=1) if count is None else count)


class MaskedObjective(Objective):
    """Cross entropy of tokens that are masked at random."""

    def __init__(self, config: Masked, mask_token: int, none: Conditions | None):
        self.config, self.mask_token, self.none = config, mask_token, none

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: tokens int64 [B, h, w], conditions [B, ...]."""
        # Of all rows: the number of masked tokens to divide by is the global batch's, so that the
        # loss does not depend on how the batch is split.
        everyone = random.all_rows()
        draws = (everyone, everyone.uniform(), random.rows)
        losses = [self.one_pass(model, latents, conditions, draws, keywords) for keywords in passes]
        return sum_of_passes(passes, losses)

    def one_pass(
        self,
        model: nn.Module,
        tokens: Tensor,
        conditions: Conditions,
        draws: tuple[StepRandom, Tensor, slice],
        keywords: Mapping[str, Any],
    ) -> Loss:
        """One pass; `draws` are of the global batch, with its progress and the rows that count."""
        config, (everyone, progress, rows) = self.config, draws
        masks = mask_tokens(tokens, progress, everyone.uniform(*tokens.shape[1:]), config.schedule)
        mask = masks[rows]  # [B, h, w], of this micro-batch
        # This part's share of the global count: the mean over all parts is then the global mean.
        count = masks.sum().clamp(min=1) * (len(mask) / len(masks))
        told = dropped(conditions, self.none, everyone.uniform()[rows] < config.label_dropout)
        hidden = torch.where(mask, self.mask_token, tokens)  # int64 [B, h, w]
        logits = model(hidden, **told, **keywords)  # [B, h * w, codebook + 1]
        masked_only = config.loss_on == "masked"
        total = token_loss(logits, tokens, mask, masked_only, config.label_smoothing, count)
        right = (logits.argmax(dim=-1) == tokens.flatten(1)) & mask.flatten(1)
        return Loss(total, {"masked_accuracy": right.sum() / count})
