"""A network as layers one behind the other, each run on no more than the next ones need."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gensynth.autoencoders.tiling.field import MIXING, Corner, Step, Window, needs, steps_of
from gensynth.autoencoders.tiling.tiles import Tiles
from gensynth.autoencoders.tiling.whole import Gathering, Place, Reached, gathering_copy


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
        return math.prod(step.up for step in self.steps)

    @property
    def down(self) -> int:
        """How many times coarser its output is."""
        return math.prod(step.down for step in self.steps)


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

    def windows(self, tile: Window, size: int, tiles: Tiles) -> list[Window]:
        """What each stage takes of its input, and the output: rows or columns.

        Their lengths are the same for every tile, since a CPU's libraries keep memory for each
        shape that they have not met: a narrow last tile takes more, and what would be beyond an
        edge of the picture is taken on the other side.

        Args:
            tile: in latent positions.
            size: of the picture, in latent positions.
        """
        begin, end = tile[1] - tiles.side, tile[1]
        units = self.units
        window = (begin * units[-1], end * units[-1])
        found = [_inside(window, size * units[-1])]
        for one, unit in zip(reversed(self.stages), reversed(units[:-1]), strict=True):
            start, stop = needs(one.steps, window)
            window = (
                max(start, (begin - tiles.overlap) * unit),
                min(stop, (end + tiles.overlap) * unit),
            )
            found.append(_inside(window, size * unit))
        return found[::-1]

    @torch.no_grad()
    def run(self, source: Rows, tile: Corner, size: tuple[int, int], tiles: Tiles) -> Tensor:
        """The output for a tile, which is in latent positions as the picture's size is.

        Raises:
            Reached: a stage gathers, and does not know the numbers of the whole picture yet.
        """
        rows, columns = (
            self.windows(side, length, tiles) for side, length in zip(tile, size, strict=True)
        )
        features = window_of(source, (rows[0], columns[0]))
        inputs = zip(self.stages, self.units, rows, columns, rows[1:], columns[1:], strict=False)
        for one, unit, *here, below, right in inputs:
            one.place.put(features, _inner(tile, here, unit))
            features = one.run(features)
            # The edges of the window were padded as if they were the picture's: only what is right
            # goes on, which is also less to compute.
            begins = (window[0] * one.up // one.down for window in here)
            features = _cut(features, (below, right), begins)
        inner = _inner(tile, (rows[-1], columns[-1]), self.units[-1])
        return features[..., inner[0], inner[1]]

    def gather(
        self, source: Rows, corners: Sequence[Corner], size: tuple[int, int], tiles: Tiles
    ) -> None:
        """Runs all tiles until every stage knows the numbers of the whole picture."""
        for _ in range(sum(len(one.gathers) for one in self.stages)):
            reached: Gathering | None = None
            for corner in corners:
                try:
                    self.run(source, corner, size, tiles)
                except Reached as stop:
                    reached = stop.layer
            assert reached is not None, "a layer that gathers was not come by"
            reached.finish()


def _inside(window: Window, size: int) -> Window:
    """A window of the same length that is within the picture, or all of it."""
    length = min(window[1] - window[0], size)
    start = min(max(window[0], 0), size - length)
    return start, start + length


def _inner(tile: Corner, window: Sequence[Window], unit: int) -> tuple[slice, slice]:
    """Where in a window a tile lies."""
    rows, columns = (
        slice(start * unit - begin, stop * unit - begin)
        for (start, stop), (begin, _) in zip(tile, window, strict=True)
    )
    return rows, columns


def _cut(features: Tensor, window: Corner, begins: Iterable[int]) -> Tensor:
    rows, columns = (
        slice(start - begin, stop - begin)
        for (start, stop), begin in zip(window, begins, strict=True)
    )
    return features[..., rows, columns]
