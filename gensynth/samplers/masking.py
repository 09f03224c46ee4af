"""How much of a token image is masked, and in which order its tokens are decided."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from gensynth.errors import UsageError

# Share of the tokens still masked at progress r in [0, 1] (MaskGIT, arXiv 2202.04200, section 3.3;
# Halton-MaskGIT, Utils/masking_scheduler.py). All fall from 1 to 0.
MASKED_SHARE: dict[str, Callable[[Tensor], Tensor]] = {
    "arccos": lambda r: torch.arccos(r) / (math.pi * 0.5),
    "cosine": lambda r: torch.cos(r * math.pi * 0.5),
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
    "cubic": lambda r: 1 - r**3,
    "root": lambda r: 1 - r**0.5,
}
NUM_HALTON_POINTS = 10_000  # what the official code draws


def masked_share(schedule: str, progress: Tensor) -> Tensor:
    """Share still masked at `progress` in [0, 1].

    Raises:
        UsageError: unknown schedule.
    """
    if schedule not in MASKED_SHARE:
        raise UsageError(f"unknown schedule {schedule!r}; known: {', '.join(MASKED_SHARE)}.")
    return MASKED_SHARE[schedule](progress)


def decided_counts(schedule: str, steps: int, tokens: int) -> list[int]:
    """How many of `tokens` are decided after each of `steps`: one more at least, all at last.

    Raises:
        UsageError: unknown schedule, or more steps than tokens.
    """
    if not 1 <= steps <= tokens:
        raise UsageError(f"steps must be from 1 to the {tokens} tokens of an image, got {steps}.")
    # As the official code computes it for Halton order, in float32; it rounds down.
    counts, decided = [], 0
    for step in range(1, steps + 1):
        share = 1 - masked_share(schedule, torch.tensor(step / steps))
        # At least one now, and at least one left for each later step.
        decided = max(decided + 1, min(int(share * tokens), tokens - (steps - step)))
        counts.append(decided)
    return [*counts[:-1], tokens]  # all, however the share rounds


def halton_order(size: int) -> Tensor:
    """Places of a square of tokens, [size^2, 2] (row, column), in the order of a Halton sequence.

    Bases 2 and 3; a place counts when a point first falls into it (Halton-MaskGIT,
    Sampler/halton_sampler.py). The official code draws 10,000 points, which miss places of large
    squares; here points are drawn until all are found.
    """
    return torch.tensor(_halton_places(size))


@lru_cache(maxsize=16)
def _halton_places(size: int) -> tuple[tuple[int, int], ...]:
    found: dict[tuple[int, int], None] = {}  # a set that keeps its order
    first, count = 1, NUM_HALTON_POINTS
    while len(found) < size * size:
        index = torch.arange(first, first + count)
        rows, columns = (van_der_corput(index, base) * size for base in (2, 3))
        for place in zip(rows.long().tolist(), columns.long().tolist(), strict=True):
            found.setdefault(place)
        first += count
    return tuple(found)


def van_der_corput(index: Tensor, base: int) -> Tensor:
    """Digits of `index` in `base`, mirrored behind the point: float64 in [0, 1)."""
    value, factor = torch.zeros(index.shape, dtype=torch.float64), 1 / base
    rest = index.clone()
    while bool((rest > 0).any()):
        value += (rest % base) * factor
        rest, factor = rest // base, factor / base
    return value
