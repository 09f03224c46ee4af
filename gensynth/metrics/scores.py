"""The Inception Score: how sure a classifier is of each image, and how much the images differ."""

import math

import numpy as np
import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_rows


def inception_score(
    logits: Array, splits: int = 10, *, seed: int | None = 2020
) -> tuple[float, float]:
    """Mean and standard deviation over splits of exp(mean KL(p(y|x) | p(y))) (arXiv 1606.03498).

    Args:
        logits: [N, C] of the generated images; Inception's without its bias.
        splits: split i has rows i N // splits to (i + 1) N // splits.
        seed: the rows are permuted first by `RandomState(seed)`, as torch-fidelity does; None for
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
    # log p(y), the mean of p(y|x) over the images: [C]
    marginal = given.logsumexp(0) - math.log(len(given))
    return (given.exp() * (given - marginal)).sum(1).mean().exp()
