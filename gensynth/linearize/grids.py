"""Height and width in tokens, told to the attentions of a model with each of its calls.

They go with the keywords that a model hands to its attentions, not into the model: pictures of two
sizes may follow each other, and a block that is computed again for its gradient is told the same.
"""

import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gensynth.errors import UsageError
from gensynth.models.layers.grid import Grid

GridOf = Callable[[Any, Mapping[str, Any]], Grid]  # of a model and the arguments of its call
KEYWORD = "grid"


@dataclass
class Teller:
    """A hook before a model's forward that adds the grid to one of its keywords.

    Attributes:
        grid_of: finds the grid.
        keyword: of the model's forward, a mapping that reaches the attentions.
        side: what both sides of the grid must be a multiple of.
        pixels: sides of a picture per token, 0 where no pipeline has told.
    """

    grid_of: GridOf
    keyword: str
    side: int = 1
    pixels: int = 0

    def __call__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        signature = inspect.signature(type(model).forward)
        given = signature.bind_partial(model, *args, **kwargs).arguments
        grid = self.grid_of(model, given)
        check_side(grid, self.side, self.pixels)
        told = {**(given.get(self.keyword) or {}), KEYWORD: grid}
        if self.keyword in given and self.keyword not in kwargs:  # given by its place
            place = list(signature.parameters).index(self.keyword) - 1
            return (*args[:place], told, *args[place + 1 :]), kwargs
        return args, {**kwargs, self.keyword: told}


def forget(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A hook before attentions that are none of the linearized ones, and would warn of the grid."""
    return args, {name: value for name, value in kwargs.items() if name != KEYWORD}


def check_side(grid: Grid, side: int, pixels: int) -> None:
    """Refuses a grid whose sides are not multiples.

    Raises:
        UsageError: with the nearest that are.
    """
    if grid.height % side == 0 and grid.width % side == 0:
        return
    unit = pixels or 1
    kind = "pixels" if pixels else "tokens"
    here = f"{grid.height * unit}x{grid.width * unit} {kind}"
    raise UsageError(
        f"a picture of {here} does not fit down_factor {side}: height and width must be multiples "
        f"of {side * unit} {kind}; the nearest are {_nearest(grid.height, side, unit)} high and "
        f"{_nearest(grid.width, side, unit)} wide."
    )


def _nearest(size: int, side: int, unit: int) -> str:
    below, above = size // side * side, -(-size // side) * side
    return " or ".join(str(one * unit) for one in sorted({below, above} - {0}))


def of_latents(model: Any, given: Mapping[str, Any]) -> Grid:
    """Of a model that cuts latents [B, C, H, W] into patches.

    Raises:
        UsageError: the patches do not fill them; with the nearest sizes that they do.
    """
    height, width = given["hidden_states"].shape[-2:]
    patch = model.config.patch_size
    if height % patch or width % patch:
        raise UsageError(
            f"latents of {height}x{width} do not fit patches of {patch}: the nearest are "
            f"{_nearest(height, patch, 1)} high and {_nearest(width, patch, 1)} wide."
        )
    return Grid(height // patch, width // patch)


class Positions:
    """Of FLUX, whose positions of tokens [N, 3] name a row and a column each.

    They are looked at once, and not again while a pipeline goes on giving the same tensor: each
    look would make a GPU wait.
    """

    def __init__(self) -> None:
        # The tensor, how often it was written to, and its grid: one value, as threads share it.
        self.last: tuple[weakref.ref[Tensor], int, Grid] | None = None

    def __call__(self, model: Any, given: Mapping[str, Any]) -> Grid:
        ids: Tensor = given["img_ids"]
        version = None if ids.is_inference() else ids._version  # whether it was written to since
        last = self.last
        if last is not None and last[0]() is ids and last[1] == version:
            return last[2]
        grid = of_positions(ids)
        self.last = None if version is None else (weakref.ref(ids), version, grid)
        return grid

    def __reduce__(self) -> tuple[type["Positions"], tuple[()]]:
        return Positions, ()  # a copy begins anew: a tensor cannot be pointed at from elsewhere


def of_positions(ids: Tensor) -> Grid:
    """The grid of positions [N, 3] or [B, N, 3], row by row.

    Half precision rounds positions, so neighbours may be equal: a row ends where the next one is
    known to begin.

    Raises:
        UsageError: they are not those of one picture.
    """
    first, rows, columns = (ids[0] if ids.dim() == 3 else ids).detach().cpu().float().T
    ends = ((columns[1:] < columns[:-1]) | (rows[1:] > rows[:-1])).nonzero()
    width = int(ends[0]) + 1 if len(ends) else len(columns)
    whole = len(columns) % width == 0
    if whole:
        down, across = rows.view(-1, width), columns.view(-1, width)
        whole = bool(
            (first == first[0]).all()
            and (down == down[:, :1]).all()
            and (across == across[:1]).all()
        )
        whole = whole and bool((down[1:] >= down[:-1]).all())
    if not whole:
        raise UsageError(
            "CLEAR looks around each token in one grid, and img_ids has the positions of several "
            "pictures (FLUX Kontext) or of none; call gensynth.restore for such a pipeline."
        )
    return Grid(len(columns) // width, width)
