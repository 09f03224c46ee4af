"""Where a token is: sinusoids, rotary tables, and positions drawn at random (RPE-2D)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.errors import UsageError
from gensynth.models.layers.checks import check_ratio
from gensynth.seeding import StepRandom

PERIOD = 10_000.0


def sincos_2d(width: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Table [1, len(rows) * len(columns), width] of sinusoids (MAE, arXiv 2111.06377, as in DiT).

    The first half of the channels stands for the column, the second for the row; each has its sines
    before its cosines.
    """
    if width % 4:
        raise ValueError(f"sin-cos positions need a hidden_size divisible by 4, got {width}")
    count = width // 4
    # float64 as in DiT's numpy code, rounded once: the same table to the last bit
    rate = PERIOD ** (-torch.arange(count, dtype=torch.float64, device=rows.device) / count)

    def axis(places: Tensor) -> Tensor:
        angle = places.double()[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=1).float()

    by_column = axis(columns)[None, :, :].expand(len(rows), -1, -1)
    by_row = axis(rows)[:, None, :].expand(-1, len(columns), -1)
    return torch.cat([by_column, by_row], dim=-1).flatten(0, 1)[None]


def rotary_2d(
    head_dim: int, rows: Tensor, columns: Tensor, inclusive: bool = False
) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables [1, 1, len(rows) * len(columns), head_dim] of rotary positions.

    The first half of a head turns with the row, the second with the column; neighbours turn
    together (arXiv 2104.09864).

    Args:
        inclusive: the slowest rate is 1 / 10000 itself, as in RALA, instead of one step above.
    """
    if head_dim % 4:
        raise ValueError(f"rotary positions need a head width divisible by 4, got {head_dim}")
    count = head_dim // 4
    steps = torch.arange(count, dtype=torch.float32, device=rows.device)
    rate = PERIOD ** (-steps / (max(1, count - 1) if inclusive else count))
    rate = rate.repeat_interleave(2)  # one rate for both of a pair of neighbours
    by_row = (rows.float()[:, None] * rate)[:, None, :].expand(-1, len(columns), -1)
    by_column = (columns.float()[:, None] * rate)[None, :, :].expand(len(rows), -1, -1)
    angle = torch.cat([by_row, by_column], dim=-1).flatten(0, 1)[None, None]
    return angle.cos(), angle.sin()


def resized_table(table: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """A learned table [1, N, C] of one grid, interpolated to another grid."""
    if before == after:
        return table
    image = table.transpose(1, 2).unflatten(2, before)  # [1, C, rows, columns]
    image = F.interpolate(image, after, mode="bicubic", antialias=False)
    return image.flatten(2).transpose(1, 2)


def places(count: int, position_range: int | None, device: torch.device | None) -> Tensor:
    """Positions [count] along one axis when sampling: 0, 1, ... or, in a range, evenly spread.

    A model trained on random positions knows every order-preserving choice, so any number of tokens
    is spread over the whole range it has seen (RPE-2D, arXiv 2503.18719).
    """
    if position_range is None:
        return torch.arange(count, device=device, dtype=torch.float32)
    if count > position_range:
        raise UsageError(
            f"{count} tokens along an axis, but position_range is {position_range}: give a size "
            f"of at most {position_range} tokens, or train with a larger position_range"
        )
    # both ends are hit, whatever the number: what is between them is interpolation, not new ground
    return torch.linspace(0, position_range - 1, count, device=device)


def spread_places(
    count: int, trained: int, interpolation_scale: float, device: torch.device | None
) -> Tensor:
    """Positions [count] over the extent of `trained` tokens, divided by the scale (PixArt)."""
    places = torch.arange(count, device=device, dtype=torch.float32)
    return places / (count / trained) / interpolation_scale  # in this order, as diffusers rounds


def random_places(noise: Tensor, count: int) -> Tensor:
    """`count` different positions in rising order, from uniform `noise` [position_range]."""
    return noise.topk(count).indices.sort().values.float()


class Positions(nn.Module):
    """What tells a transformer where its tokens are.

    Args:
        kind: "sincos" (a table added to the tokens), "rope" (rotary, in the mixers) or "none".
        grid_size: height and width in tokens of the training images.
        learned: whether the table is trained from its sinusoids on (MDT).
        position_range: with a number, positions are random while training (RPE-2D).
        head_dim: width of a head; for rotary tables.
        rotary: whether the mixer needs rotary tables whatever `kind` is (RALA).
        interpolation_scale: with a number, those of any size extend as far as those of `grid_size`,
            divided by it.
    """

    KINDS = ("sincos", "rope", "none")

    def __init__(
        self,
        kind: str,
        grid_size: tuple[int, int],
        hidden_size: int,
        head_dim: int,
        learned: bool = False,
        position_range: int | None = None,
        rotary: bool = False,
        interpolation_scale: float | None = None,
    ):
        super().__init__()
        if kind not in self.KINDS:
            raise ValueError(f"unknown positions {kind!r}; known: {', '.join(self.KINDS)}")
        if position_range is not None and kind == "none" and not rotary:
            raise ValueError("position_range needs positions: sincos or rope")
        if (kind == "rope" or rotary) and head_dim % 4:
            raise ValueError(
                f"rotary positions need heads of a width divisible by 4, got {head_dim}"
            )
        if position_range is not None and position_range < max(grid_size):
            raise ValueError(
                f"position_range must be at least the {max(grid_size)} tokens of a side, "
                f"got {position_range}"
            )
        if interpolation_scale is not None:
            check_ratio(interpolation_scale=interpolation_scale)
            if position_range is not None or kind == "none":
                raise ValueError(
                    "interpolation_scale needs positions: sincos or rope, and no position_range"
                )
        self.interpolation_scale = interpolation_scale
        self.kind, self.grid_size, self.learned = kind, grid_size, learned
        self.width, self.head_dim = hidden_size, head_dim
        self.position_range, self.rotary = position_range, rotary
        if kind == "sincos" and position_range is None:
            table = sincos_2d(hidden_size, *self.along(*grid_size, None, None))
            # A parameter also where it is frozen: official checkpoints carry it, and it is loaded.
            self.table = nn.Parameter(table, requires_grad=learned)

    def along(
        self,
        height: int,
        width: int,
        device: torch.device | None,
        ids: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """Positions of the rows [height] and columns [width]; `ids` if they are given."""
        if ids is not None:
            return ids
        scale, sides = self.interpolation_scale, zip((height, width), self.grid_size, strict=True)
        if scale is not None:
            rows, columns = (spread_places(n, trained, scale, device) for n, trained in sides)
        else:
            rows, columns = (places(n, self.position_range, device) for n in (height, width))
        return rows, columns

    def added(self, height: int, width: int, rows: Tensor, columns: Tensor) -> Tensor | None:
        """The table [1, height * width, hidden_size] to add to the tokens, or None."""
        if self.kind != "sincos":
            return None
        if self.position_range is not None:
            return sincos_2d(self.width, rows, columns)
        if (height, width) == self.grid_size:  # the table as it was loaded, to the last bit
            return self.table
        if self.learned:
            return resized_table(self.table, self.grid_size, (height, width))
        return sincos_2d(self.width, rows, columns).to(self.table.dtype)

    def tables(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rotary cosines and sines, or None."""
        if self.kind != "rope" and not self.rotary:
            return None
        return rotary_2d(self.head_dim, rows, columns, inclusive=self.rotary)

    def draw(self, random: StepRandom, height: int, width: int) -> tuple[Tensor, Tensor] | None:
        """Random positions of one training step, the same for every image of it; or None."""
        if self.position_range is None:
            return None
        noise = random.shared_uniform(2, self.position_range)
        rows, columns = random_places(noise[0], height), random_places(noise[1], width)
        return rows.to(random.device), columns.to(random.device)
