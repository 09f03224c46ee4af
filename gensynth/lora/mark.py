"""The mark of a model's weights, which adapters know their base by."""

import hashlib

import numpy as np
import torch
from torch import nn


def mark_of(model: nn.Module) -> str:
    """16 hex digits of a model's weights, the same for every precision that they are stored in.

    They are of names, shapes and signs: rounding to 16 bits changes no sign, also where it gives 0.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        signs = torch.signbit(tensor.detach()).flatten().cpu().numpy()
        digest.update(np.packbits(signs).tobytes())
    return digest.hexdigest()[:16]
