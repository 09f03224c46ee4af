"""Tokens from logits and uniform numbers."""

import torch
from torch import Tensor


def draw_tokens(
    logits: Tensor,
    uniform: Tensor,
    temperature: float,
    top_k: int | None,
    greedy: bool = False,
    scratch: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Tokens [B, N] and their probabilities, drawn by inverting the distribution function.

    Args:
        logits: [B, N, codebook + 1]; the last, "masked", is never drawn.
        uniform: [B, N] in [0, 1).
        temperature: multiplies the logits, as in the official code: larger is sharper.
        top_k: draw among the most probable only.
        scratch: float32 and float64 [B, N, codebook], written over.
    """
    single, double = scratch or (None, None)
    scaled = torch.mul(logits[..., :-1].float(), temperature, out=single)  # [B, N, codebook]
    probability = torch.softmax(scaled, dim=-1)
    if greedy:
        best, token = probability.max(dim=-1)
        return token, best
    if top_k is None:
        token = invert(probability, uniform, double)
    else:
        best, candidates = probability.topk(min(top_k, probability.shape[-1]), dim=-1)
        token = candidates.gather(-1, invert(best, uniform)[..., None])[..., 0]  # rank -> code
    return token, probability.gather(-1, token[..., None])[..., 0]


def invert(weights: Tensor, uniform: Tensor, scratch: Tensor | None = None) -> Tensor:
    """Index [B, N] drawn with probabilities proportional to weights [B, N, V].

    `scratch` float64 [B, N, V] is written over; large fresh memory costs more than the sums in it.
    """
    # float64: float32 sums over a large codebook lose its small probabilities.
    cumulative = weights.double() if scratch is None else scratch.copy_(weights.detach())
    cumulative = cumulative.cumsum_(dim=-1)
    # A binary search: comparing with all of a large codebook took as long as the sums.
    index = torch.searchsorted(cumulative, uniform[..., None] * cumulative[..., -1:], right=True)
    return index[..., 0].clamp(max=weights.shape[-1] - 1)  # the product may round up to the total
