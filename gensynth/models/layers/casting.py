"""In what type a layer computes, which need not be the one that its weights are stored in."""

import torch
from diffusers.models.modeling_utils import get_parameter_dtype
from torch import nn


def compute_dtype(layer: nn.Module) -> torch.dtype:
    """The type that a layer computes in.

    Under diffusers' layerwise casting its weights are stored in another one between calls.
    """
    return get_parameter_dtype(layer)
