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
    logits: Tensor, tokens: Tensor, smoothing: float = 0.0, count: Tensor | None = None
) -> Tensor:
    """Cross entropy of logits [K, V + 1] against tokens [K], summed and divided by `count`.

    Args:
        smoothing: share of the target spread over all tokens.
        count: a number; None: K, and 1 if there are none.
    """
    losses = F.cross_entropy(  # [K]; float32 whatever the model computes in
        logits.float(), tokens, label_smoothing=smoothing, reduction="none"
    )
    return losses.sum() / (max(len(losses), 1) if count is None else count)


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
        if config.loss_on == "all":
            logits = model(hidden, **told, **keywords).flatten(0, 1)  # [B * h * w, codebook + 1]
            total = token_loss(logits, tokens.flatten(), config.label_smoothing)
            logits = logits[mask.flatten()]
        else:  # the head is the dearest part where the codebook is large: only where it counts
            logits = model(hidden, wanted=mask, **told, **keywords)  # [K, codebook + 1]
            total = token_loss(logits, tokens[mask], config.label_smoothing, count)
        right = logits.argmax(dim=-1) == tokens[mask]  # [K], of the masked ones
        return Loss(total, {"masked_accuracy": right.sum() / count})
