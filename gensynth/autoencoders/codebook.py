"""Which codebook token ids belong to, and whether they are in it."""

import hashlib

import torch
from torch import Tensor

from gensynth.errors import UsageError


def fingerprint_of(codebook: Tensor) -> str:
    """16 hex digits of a codebook [codebook_size, D]; those of another codebook differ.

    Of the stored values in float32, which are the same on every machine, and the same after saving
    in half precision and loading; normalised codes may differ in the last bit.
    """
    values = codebook.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]


def check_tokens(tokens: Tensor, codebook_size: int) -> None:
    """Refuses token ids that the codebook does not have.

    Raises:
        UsageError: an id is below 0 or above codebook_size - 1.
    """
    if not tokens.numel():
        return
    lowest, highest = (int(bound) for bound in tokens.aminmax())
    if lowest < 0 or highest >= codebook_size:
        raise UsageError(
            f"token ids must be from 0 to {codebook_size - 1}, got {lowest} to {highest}; give "
            "tokens of this codebook without masked ones."
        )
