"""The Inception Score: how sure a classifier is of each image, and how much the images differ."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_rows
from gensynth.metrics.feature_metric import StoredFeatures


def inception_score(
    logits: Array, splits: int = 10, *, seed: int | None = 2020
) -> tuple[float, float]:
    """Mean and standard deviation over splits of exp(mean KL(p(y|x) | p(y))) (arXiv 1606.03498).

    Args:
        logits: [N, C] of the generated images; Inception's without its bias.
        splits: split i has rows i N // splits to (i + 1) N // splits.
        seed: the rows are permuted first by `RandomState(seed)`, as torch-fidelity does; none for
            the order they come in, as ADM's evaluator does. Images sorted by class score far lower
            in their order.

    Raises:
        UsageError: fewer rows than splits, another shape, or NaN or infinite values.
    """
    rows = as_rows("logits", logits)
    count = len(rows)
    if not 1 <= splits <= count:
        raise UsageError(f"splits must be from 1 to the number of rows, {count}, got {splits}.")
    if seed is not None:
        order = torch.from_numpy(np.random.RandomState(seed).permutation(count))
        rows = rows[order.to(rows.device)]
    bounds = [number * count // splits for number in range(splits + 1)]
    scores = torch.stack([score_of(rows[bounds[i] : bounds[i + 1]]) for i in range(splits)])
    return float(scores.mean()), float(scores.std(correction=0))


def inception_score_in_order(logits: Array, split_size: int = 5000) -> float:
    """Mean over splits of `split_size` rows in the order they come in, the last one shorter.

    So ADM's evaluator (openai/guided-diffusion, evaluations/evaluator.py) counts, whose numbers the
    tables of papers have.

    Args:
        logits: [N, C] of the generated images, see `inception_score`.

    Raises:
        UsageError: no rows, another shape, or NaN or infinite values.
    """
    rows = as_rows("logits", logits)
    if not len(rows) or split_size < 1:
        raise UsageError(f"{len(rows)} rows of logits cannot be split into parts of {split_size}.")
    return float(torch.stack([score_of(part) for part in rows.split(split_size)]).mean())


def score_of(logits: Tensor) -> Tensor:
    """exp(mean KL(p(y|x) | p(y))) of logits [N, C], float64 []."""
    # Logarithms throughout: a float32 softmax that underflows to 0 gives NaN (ADM's evaluator).
    given = logits.double().log_softmax(1)
    marginal = given.logsumexp(0) - math.log(len(given))
    return (given.exp() * (given - marginal)).sum(1).mean().exp()


class InceptionScore(StoredFeatures):
    """`inception_score` of the generated images that `update` took in; real ones have no part.

    Args:
        dim: number C of classes.
        splits, seed: those of `inception_score`.
        extractor: uint8 images [B, C, H, W] -> logits [B, C]; `update` then takes images.
    """

    higher_is_better = True

    def __init__(
        self,
        dim: int = 1008,
        *,
        splits: int = 10,
        seed: int | None = 2020,
        extractor: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ):
        super().__init__(dim, extractor, **kwargs)
        self.splits, self.seed = splits, seed

    def _take(self, features: Tensor, index: Tensor, real: bool) -> None:
        if not real:
            super()._take(features, index, real)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over splits, float64 [].

        Raises:
            UsageError: fewer images than splits.
        """
        mean, deviation = inception_score(self.stored(real=False), self.splits, seed=self.seed)
        return self.scalar(mean), self.scalar(deviation)
