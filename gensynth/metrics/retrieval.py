"""Does a picture show what its prompt says: by which prompt a scorer finds it, and CLIP score."""

import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_pair

MOST_AT_ONCE = 2**24  # similarities that are held at a time, 128 MiB of float64


def own_ranks(pictures: Array, texts: Array, own: Tensor, *, among: Tensor | None = None) -> Tensor:
    """How many of the texts are nearer to each picture than its own, int64 [N]; 0: none.

    A text that is as near as the own one counts as nearer: a scorer that cannot tell any two
    apart finds nothing. Nearness is the cosine, in float64.

    Args:
        pictures, texts: embeddings [N, D] and [M, D]. No text twice, or it would stand in its own
            way.
        own: which text each picture was drawn for, int64 [N].
        among: which texts each picture is held against, bool [N, M]; None for all.

    Raises:
        UsageError: other shapes, a row of zeros, or NaN or infinite values.
    """
    pictures, texts = as_pair(pictures, texts)
    if own.shape != (len(pictures),) or not 0 <= int(own.min()) <= int(own.max()) < len(texts):
        raise UsageError(
            f"own must say for each of {len(pictures)} pictures which of {len(texts)} texts it "
            f"was drawn for, got {list(own.shape)}."
        )
    pictures, texts = directions("pictures", pictures), directions("texts", texts)
    ranks = []
    for rows in torch.arange(len(own)).split(max(1, MOST_AT_ONCE // len(texts))):
        similar = pictures[rows] @ texts.T  # [n, M]
        nearer = similar >= similar.gather(1, own[rows, None])
        if among is not None:
            nearer &= among[rows]
        nearer[torch.arange(len(rows)), own[rows]] = False
        ranks.append(nearer.sum(1))
    return torch.cat(ranks)


def recall(ranks: Tensor, k: int) -> float:
    """The share of pictures whose own text is one of the k nearest, from `own_ranks` [N]."""
    return float((ranks < k).double().mean())


def clip_scores(pictures: Array, texts: Array) -> Tensor:
    """100 times the cosine of each picture and its text, float64 [N] (arXiv 2104.08718).

    Their mean, or 0 if that is below, is what torchmetrics calls `CLIPScore`.

    Args:
        pictures, texts: embeddings [N, D] of N pictures and of the N texts they were drawn for.

    Raises:
        UsageError: other shapes, a row of zeros, or NaN or infinite values.
    """
    pictures, texts = as_pair(pictures, texts)
    if len(pictures) != len(texts):
        raise UsageError(f"there are {len(pictures)} pictures and {len(texts)} texts.")
    return 100 * (directions("pictures", pictures) * directions("texts", texts)).sum(1)


def directions(name: str, rows: Tensor) -> Tensor:
    """Rows [N, D] brought to length 1, float64.

    Raises:
        UsageError: a row of zeros, which has no direction.
    """
    lengths = rows.double().norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        raise UsageError(f"{name} hold a row of zeros, which has no direction.")
    return rows.double() / lengths
