"""A network as layers one behind the other, each run on no more than the next ones need."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gensynth.autoencoders.tiling.field import MIXING, Step, Window, needs, steps_of
from gensynth.autoencoders.tiling.whole import Gathering, Place, Reached, gathering_copy

Corner = tuple[Window, Window]  # rows and columns


class Rows(Protocol):
    """Latents, tokens or pixels that are read in windows: a tensor, or what reads from a disk.

    Its last two dimensions are rows and columns; it is indexed by one slice for each dimension.
    """

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, key: tuple[slice, ...], /) -> Tensor: ...


def window_of(rows: Rows, corner: Corner) -> Tensor:
    """A window of latents, tokens or pixels."""
    (top, bottom), (left, right) = corner
    every = (slice(None),) * (len(rows.shape) - 2)
    return rows[(*every, slice(top, bottom), slice(left, right))]


@dataclass(frozen=True)
class Stage:
    """A layer of a chain: what it does, how far it looks, and what of it needs the whole picture.

    Attributes:
        mixes: whether it has to see the whole picture at once (softmax attention).
        gathers: its layers that need numbers of the whole picture.
        place: what tells these where a tile lies.
    """

    run: Callable[[Tensor], Tensor]
    steps: tuple[Step, ...] = ()
    mixes: bool = False
    gathers: tuple[Gathering, ...] = ()
    place: Place = field(default_factory=Place)

    @property
    def up(self) -> int:
        """How many times finer its output is."""
        return _product(step.up for step in self.steps)

    @property
    def down(self) -> int:
        """How many times coarser its output is."""
        return _product(step.down for step in self.steps)


def _product(numbers: Iterator[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


def stage(layer: nn.Module, call: Callable[[Any, Tensor], Tensor] | None = None) -> Stage:
    """A layer of a network as a stage; `call` says how it is called, if not with its input alone.

    Raises:
        UsageError: how far it looks is not known.
    """
    steps = tuple(steps_of(layer))
    mixes = any(isinstance(inner, MIXING) for inner in layer.modules())
    place = Place()
    copied, gathers = gathering_copy(layer, place)
    run = copied if call is None else lambda features: call(copied, features)
    return Stage(run, steps, mixes, tuple(gathers), place)


def segments(stages: Sequence[Stage], unit: int) -> list["Segment"]:
    """A chain cut where the whole picture has to be there.

    That is before and after layers which mix it; and where a chain has arrived at the lowest
    resolution and has numbers to gather: what was made until there is kept, as it is small.

    Args:
        unit: positions of the chain's input for a latent position.
    """
    found: list[Segment] = []
    part: list[Stage] = []
    begin = now = unit
    for number, one in enumerate(stages):
        gathers_later = any(later.gathers for later in stages[number:])
        arrived = begin > now == 1 and gathers_later
        if part and (one.mixes or part[-1].mixes or arrived):
            found.append(Segment(tuple(part), begin))
            part, begin = [], now
        part.append(one)
        now = now * one.up // one.down
    return [*found, Segment(tuple(part), begin)]


def _units(stages: Sequence[Stage], unit: int) -> list[int]:
    units = [unit]
    for one in stages:
        units.append(units[-1] * one.up // one.down)
    return units


@dataclass(frozen=True)
class Segment:
    """Stages between two places where the whole picture is there.

    Attributes:
        unit: positions of its input for a latent position.
    """

    stages: tuple[Stage, ...]
    unit: int

    @property
    def mixes(self) -> bool:
        return self.stages[0].mixes

    @property
    def units(self) -> list[int]:
        """Positions for a latent position: of the input of each stage, and of the output."""
        return _units(self.stages, self.unit)

    def reach(self) -> int:
        """Latent rows beyond a tile that it is made of, at most, to either side."""
        if self.mixes:
            return 0
        (*_, last), far = self.units, 10**6
        steps = [step for one in self.stages for step in one.steps]
        start, stop = needs(steps, (far * last, (far + 1) * last))
        start, stop = start // self.unit, -(-stop // self.unit)
        return max(far - start, stop - far - 1)

    def windows(self, tile: Window, size: int, overlap: int) -> list[Window]:
        """What each stage takes of its input, and the output: rows or columns.

        Args:
            tile: in latent positions.
            size: of the picture, in latent positions.
            overlap: latent positions beyond the tile that may be used, at most.
        """
        low, high = max(tile[0] - overlap, 0), min(tile[1] + overlap, size)
        units = self.units
        window = (tile[0] * units[-1], tile[1] * units[-1])
        found = [window]
        for one, unit in zip(reversed(self.stages), reversed(units[:-1]), strict=True):
            start, stop = needs(one.steps, window)
            window = max(start, low * unit), min(stop, high * unit)
            found.append(window)
        return found[::-1]

    @torch.no_grad()
    def run(self, source: Rows, tile: Corner, size: tuple[int, int], overlap: int) -> Tensor:
        """The output for a tile; all in latent positions.

        Raises:
            Reached: a stage gathers, and does not know the numbers of the whole picture yet.
        """
        rows, columns = (
            self.windows(side, length, overlap) for side, length in zip(tile, size, strict=True)
        )
        features = window_of(source, (rows[0], columns[0]))
        inputs = zip(self.stages, self.units[:-1], strict=True)
        for number, (one, unit) in enumerate(inputs):
            at = (rows[number][0], columns[number][0])
            one.place.shape = (features.shape[-2], features.shape[-1])
            one.place.rows, one.place.columns = (
                slice(start * unit - begin, stop * unit - begin)
                for (start, stop), begin in zip(tile, at, strict=True)
            )
            features = one.run(features)
            # The edges of the window were padded as if they were the picture's: only what is right
            # goes on, which is also less to compute.
            begin = tuple(edge * one.up // one.down for edge in at)
            features = features[
                ...,
                rows[number + 1][0] - begin[0] : rows[number + 1][1] - begin[0],
                columns[number + 1][0] - begin[1] : columns[number + 1][1] - begin[1],
            ]
        return features

    def gather(
        self, source: Rows, tiles: Sequence[Corner], size: tuple[int, int], overlap: int
    ) -> None:
        """Runs all tiles until every stage knows the numbers of the whole picture."""
        for _ in range(sum(len(one.gathers) for one in self.stages)):
            reached: Gathering | None = None
            for tile in tiles:
                try:
                    self.run(source, tile, size, overlap)
                except Reached as stop:
                    reached = stop.layer
            assert reached is not None, "a layer that gathers was not come by"
            reached.finish()
