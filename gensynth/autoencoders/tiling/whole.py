"""Layers that look at the whole picture through a few numbers: gathered from tiles, then used.

Group norms need the mean and variance of each group, linear attention the sum of values times keys.
Between them a network is local, so it is run up to the first whose numbers are not known, for every
tile; then up to the second, and so on, until the picture can be made. Nothing is approximated.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import SanaMultiscaleLinearAttention
from torch import Tensor, nn

from gensynth.autoencoders.tiling.field import MIXING


class Reached(Exception):  # noqa: N818: no error, a stop on the way
    """A tile came to a layer whose numbers of the whole picture are not known yet."""

    def __init__(self, layer: "Gathering"):
        self.layer = layer


class Place:
    """Where in the layer's input the tile lies, without what surrounds it."""

    def put(self, features: Tensor, inner: tuple[slice, slice]) -> None:
        """Says that the input is `features`, and which rows and columns of it the tile is."""
        self.shape = features.shape[-2:]
        self.rows, self.columns = inner

    def inner(self, features: Tensor) -> Tensor:
        """The tile alone; every position of a picture is in one tile."""
        assert features.shape[-2:] == self.shape, "a layer behind a change of resolution"
        return features[..., self.rows, self.columns]


class Gathering:
    """Numbers of the whole picture, which `add` gathers and `finish` completes."""

    known = False

    def finish(self) -> None:
        """Says that every tile was added."""
        self.known = True


class WholeNorm(nn.Module, Gathering):
    """A group norm with the statistics of the picture instead of the tile's."""

    def __init__(self, norm: nn.GroupNorm, place: Place):
        super().__init__()
        self.norm, self.place = norm, place
        self.count = 0
        self.mean = self.squares = torch.zeros(())  # [B, groups], float64

    def forward(self, features: Tensor) -> Tensor:
        if not self.known:
            self._add(self.place.inner(features))
            raise Reached(self)
        rstd = (self.squares / self.count + self.norm.eps).rsqrt()
        return self._normalised(features, self.mean, rstd)

    def _add(self, inner: Tensor) -> None:
        """Chan's merging of means and sums of squared differences."""
        batch = len(inner)
        groups = inner.float().reshape(batch, self.norm.num_groups, -1)
        variance, mean = (number.double() for number in torch.var_mean(groups, -1, correction=0))
        count = groups.shape[-1]
        total = self.count + count
        difference = mean - self.mean
        self.squares = (
            self.squares + variance * count + difference.square() * (self.count * count / total)
        )
        self.mean = self.mean + difference * (count / total)
        self.count = total

    def _normalised(self, features: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        channels = features.shape[1]
        each = channels // self.norm.num_groups
        scale, mean = rstd.repeat_interleave(each, 1), mean.repeat_interleave(each, 1)
        shift = -mean * scale
        if self.norm.affine:
            scale = scale * self.norm.weight.double()
            shift = shift * self.norm.weight.double() + self.norm.bias.double()
        spread = (*scale.shape, 1, 1)
        scaled = features.float() * scale.float().view(spread) + shift.float().view(spread)
        return scaled.to(features.dtype)


class WholeAttention(Gathering):
    """DC-AE's linear attention with the keys and values of the picture instead of the tile's.

    It takes the place of `apply_linear_attention` of diffusers' layer, and of
    `apply_quadratic_attention`, which is the same function for few positions.
    """

    def __init__(self, eps: float, place: Place):
        self.eps, self.place = eps, place
        self.state = torch.zeros(())  # [B, heads, d + 1, d], float64

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Three [B, heads, d, positions] -> [B, heads, d, positions]."""
        if not self.known:
            inner_value, inner_key = (self._inner(part) for part in (value, key))
            ones = F.pad(inner_value, (0, 0, 0, 1), value=1)
            self.state = self.state + torch.matmul(ones, inner_key.transpose(-1, -2)).double()
            raise Reached(self)
        mixed = torch.matmul(self.state.float(), query.float())
        return (mixed[:, :, :-1] / (mixed[:, :, -1:] + self.eps)).to(query.dtype)

    def _inner(self, part: Tensor) -> Tensor:
        return self.place.inner(part.unflatten(-1, self.place.shape)).flatten(-2).float()


def gathering_copy(layer: nn.Module, place: Place) -> tuple[nn.Module, list[Gathering]]:
    """A copy of a layer, with the same weights, that has the picture's numbers gathered.

    The layer itself stays as it is: others may be using it.
    """
    kept = {id(tensor): tensor for tensor in (*layer.parameters(), *layer.buffers())}
    copied = copy.deepcopy(layer, kept)
    found: list[Gathering] = []
    return _replaced(copied, place, found), found


def _replaced(layer: nn.Module, place: Place, found: list[Gathering]) -> nn.Module:
    if isinstance(layer, nn.GroupNorm):
        norm = WholeNorm(layer, place)
        found.append(norm)
        return norm
    if isinstance(layer, MIXING):
        return layer
    if isinstance(layer, SanaMultiscaleLinearAttention):
        attention: Any = WholeAttention(layer.eps, place)
        found.append(attention)
        layer.apply_linear_attention = layer.apply_quadratic_attention = attention
    for name, child in layer.named_children():
        setattr(layer, name, _replaced(child, place, found))
    return layer
