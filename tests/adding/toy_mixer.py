"""A token mixer from outside of the package, with an option."""

import torch
from torch import nn

from gensynth.models.layers.mixers import MIXERS


class Shift(nn.Module):
    """Every token sees the one `distance` places before it."""

    def __init__(self, hidden_size, num_heads, distance: int = 1):
        super().__init__()
        self.distance, self.proj = distance, nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens, grid):
        return self.proj(tokens + torch.roll(tokens, self.distance, dims=1))


MIXERS["shift"] = Shift
