"""Terms added to the loss that read hidden states: Dispersive Loss, LayerSync and REPA.

Each is a module whose `forward(states, target)` gives an unweighted scalar for one micro-batch:
`states` are the model's hidden states by name, `target` the features of a frozen encoder, which
only REPA has. All norms and distances are float32, whatever the model computes in.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.config import Dispersive, LayerSync, Repa
from gensynth.errors import UsageError
from gensynth.objectives.hidden_states import (
    as_tokens,
    numbered,
    token_grid,
    token_shape,
    unknown_state,
)


def dispersive_loss(states: Tensor, tau: float, group_size: int) -> Tensor:
    """log mean_ij exp(-|z_i - z_j|^2 / (D tau)) over groups of consecutive rows (2506.09027).

    `states` [B, ...] are flattened to z [B, D]. The mean is over all pairs of a group, its diagonal
    of zeros included, and the result the mean over groups: a function of the rows and the group,
    not of how many groups a micro-batch holds.
    """
    values = []
    for group in states.float().flatten(1).split(group_size):
        exponents = -F.pdist(group).square() / (group.shape[1] * tau)  # each pair once
        diagonal = exponents.new_zeros(len(group))  # |z_i - z_i|^2
        matrix = torch.cat([exponents, exponents, diagonal])  # all G^2 pairs of a group of G
        values.append(matrix.logsumexp(dim=0) - math.log(len(matrix)))  # log of the mean
    return torch.stack(values).mean()


def negative_cosine(tokens: Tensor, target: Tensor) -> Tensor:
    """-cos between tokens of the same place: [B, N, C] twice -> [B, N], float32."""
    tokens, target = F.normalize(tokens.float(), dim=-1), F.normalize(target.float(), dim=-1)
    return -(tokens * target).sum(dim=-1)


def layersync_loss(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum over pairs (h_i, h_j) of -cos(h_i, stopgrad(h_j)), [B, N] (arXiv 2510.12581).

    Every pair counts. In the published code for several pairs the subtraction stands after the
    loop, so that there only the last pair does.
    """
    return torch.stack([negative_cosine(first, second.detach()) for first, second in pairs]).sum(0)


def repa_loss(projected: Tensor, target: Tensor) -> Tensor:
    """-cos of projected hidden tokens and the encoder's, mean over both of [B, N] (2410.06940)."""
    return negative_cosine(projected, target).mean()


def projector(hidden_size: int, projector_dim: int, target_dim: int) -> nn.Sequential:
    """REPA's three linear layers with SiLU between them; the official `projectors.N`."""
    widths = [hidden_size, projector_dim, projector_dim, target_dim]
    linears = [nn.Linear(before, after) for before, after in pairwise(widths)]
    for linear in linears:
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    first, second, third = linears  # C -> projector_dim -> projector_dim -> target_dim
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), third)


def resize_target(target: Tensor, grid: tuple[int, int]) -> Tensor:
    """An encoder's features [B, C, h, w] as tokens [B, N, C] on the grid of the hidden state.

    The target is resized, not the hidden state: so every hidden token is trained and no gradient
    runs through the resizing. Bilinear, and an average over the covered area when it shrinks.
    """
    if target.shape[-2:] != grid:
        target = F.interpolate(target.float(), grid, mode="bilinear", antialias=True)
    return as_tokens(target)


class DispersiveTerm(nn.Module):
    """Spreads the hidden states of different images."""

    def __init__(self, config: Dispersive):
        super().__init__()
        self.config, self.names = config, (config.block,)

    def forward(self, states: Mapping[str, Tensor], target: Tensor | None = None) -> Tensor:
        state = states[self.config.block]  # [B, N, C] or [B, C, H, W]
        if len(state) % self.config.group_size:  # a smaller group has another mean
            raise UsageError(
                f"{len(state)} images cannot be split into groups of {self.config.group_size}"
            )
        return dispersive_loss(state, self.config.tau, self.config.group_size)


class LayerSyncTerm(nn.Module):
    """Pulls the hidden states of earlier blocks towards those of later ones."""

    def __init__(self, config: LayerSync):
        super().__init__()
        self.pairs = config.pairs
        self.names = tuple(dict.fromkeys(name for pair in config.pairs for name in pair))

    def forward(self, states: Mapping[str, Tensor], target: Tensor | None = None) -> Tensor:
        tokens = {name: as_tokens(states[name]) for name in self.names}
        return layersync_loss(
            [(tokens[first], tokens[second]) for first, second in self.pairs]
        ).mean()


class RepaTerm(nn.Module):
    """Aligns a hidden state, through a trained projector, with a frozen encoder of clean images."""

    def __init__(self, config: Repa, hidden_size: int, target_dim: int):
        super().__init__()
        self.block, self.names = config.block, (config.block,)
        self.projector = projector(hidden_size, config.projector_dim, target_dim)

    def forward(self, states: Mapping[str, Tensor], target: Tensor | None = None) -> Tensor:
        """`target` [B, C, h, w] are the encoder's features of the same images."""
        assert target is not None
        state = states[self.block]
        return repa_loss(
            self.projector(as_tokens(state)), resize_target(target, token_grid(state.shape))
        )


class Regularizers(nn.Module):
    """The terms of a run by the names they are logged under."""

    def __init__(self, terms: Mapping[str, nn.Module]):
        super().__init__()
        self.terms = nn.ModuleDict(terms)

    def forward(
        self, states: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Unweighted scalars; `targets` are the encoders' features by term."""
        return {name: term(states, targets.get(name)) for name, term in self.terms.items()}


def check_states(
    config: Dispersive | LayerSync | Repa, shapes: Mapping[str, Sequence[int]]
) -> None:
    """Checks a term against the hidden states of its model, given in the order of their making.

    Raises:
        UsageError: an unknown name, or a pair that cannot be aligned.
    """
    pairs = config.pairs if config.name == "layersync" else [[config.block]]
    for name in (name for pair in pairs for name in pair):
        if name not in shapes:
            raise UsageError(f"{config.name}: {unknown_state(name, list(shapes))}")
    if config.name == "repa":
        token_grid(shapes[config.block])  # raises where the tokens form no grid
    if config.name == "layersync":
        for first, second in config.pairs:
            check_pair(first, second, shapes)


def check_pair(first: str, second: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Checks that LayerSync can pull `first` towards `second`.

    Raises:
        UsageError: `second` is not computed after `first`, or has another shape.
    """
    pair = f"layersync: the pair [{first}, {second}]"
    if first == second:
        raise UsageError(
            f"{pair} aligns a block with itself: the cosine is 1 and its gradient zero. Name a "
            f"later block second. Blocks: {numbered(list(shapes))}."
        )
    order = list(shapes)  # of computation
    if order.index(first) > order.index(second):
        raise UsageError(
            f"{pair} is the wrong way round: the second is the target and must be computed later. "
            f"Write [{second}, {first}]."
        )
    ours, theirs = token_shape(shapes[first]), token_shape(shapes[second])
    if ours != theirs:
        raise UsageError(
            f"{pair} is of unlike states: {ours[0]} tokens of width {ours[1]} and {theirs[0]} of "
            f"width {theirs[1]}. Choose two blocks of one level."
        )
