"""Explicit Runge-Kutta steps, and Dormand-Prince with a step size of its own for each sample."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gensynth.errors import DivergedError
from gensynth.samplers.paths import per_sample

Field = Callable[[Tensor, Tensor], Tensor]  # dx/dt [B, ...] of x [B, ...] at time [B]


class Tableau(NamedTuple):
    """A Butcher tableau; `rows` leaves out the first, which is empty."""

    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


# torchdiffeq's words: its heun2 is the explicit trapezoid, its rk4 the 3/8 rule.
METHODS = {
    "euler": Tableau((0,), (), (1,)),
    "heun": Tableau((0, 1), ((1,),), (1 / 2, 1 / 2)),
    "midpoint": Tableau((0, 1 / 2), ((1 / 2,),), (0, 1)),
    "heun3": Tableau((0, 1 / 3, 2 / 3), ((1 / 3,), (0, 2 / 3)), (1 / 4, 0, 3 / 4)),
    "rk4": Tableau(
        (0, 1 / 3, 2 / 3, 1), ((1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)
    ),
}
# Dormand & Prince 1980, table 2. The last row is the solution of order 5.
DORMAND_PRINCE = Tableau(
    (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
)
# Shampine's companion of order 4 (Some practical Runge-Kutta formulas, 1986), as in torchdiffeq.
FOURTH_ORDER = (1951 / 21600, 0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60)


def weighted(slopes: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Sum of the slopes [B, ...] times their weights."""
    terms = [weight * k for weight, k in zip(weights, slopes, strict=True) if weight]
    return torch.stack(terms).sum(dim=0) if terms else torch.zeros_like(slopes[0])


def slopes_of(
    field: Field, x: Tensor, time: Tensor, step: Tensor, first: Tensor, tableau: Tableau
) -> tuple[list[Tensor], Tensor]:
    """The slopes of a step of `step` [B] from `x` at `time` [B], and where the last was taken.

    `first` is field(x, time), which callers know or need.
    """
    slopes, place, h = [first], x, per_sample(step, x).to(x.dtype)  # `step` may be float64
    for moment, row in zip(later_times(time, step, tableau), tableau.rows, strict=True):
        place = x + h * weighted(slopes, row)
        slopes.append(field(place, moment.to(x.dtype)))
    return slopes, place


def later_times(time: Tensor, step: Tensor, tableau: Tableau) -> list[Tensor]:
    """The times after `time` at which a step of `step` asks for a slope; all of one shape."""
    return [time + node * step for node in tableau.nodes[1:]]


def fixed_step(
    field: Field, x: Tensor, time: Tensor, step: Tensor, first: Tensor, method: str
) -> Tensor:
    """x [B, ...] at `time` + `step`, by one step of a method of `METHODS`."""
    tableau = METHODS[method]
    slopes, _ = slopes_of(field, x, time, step, first, tableau)
    return x + per_sample(step, x) * weighted(slopes, tableau.weights)


@dataclass
class Place:
    """Where each sample stands: time [B] in float64, x and its slope [B, ...]."""

    time: Tensor
    x: Tensor
    slope: Tensor

    def moved(self, where: Tensor, other: "Place") -> "Place":
        """This place, with the samples `where` [B] at `other`."""
        mask = per_sample(where, self.x)
        return Place(
            torch.where(where, other.time, self.time),
            torch.where(mask, other.x, self.x),
            torch.where(mask, other.slope, self.slope),
        )


def dormand_prince(
    field: Field, x: Tensor, grid: Tensor, rtol: float, atol: float
) -> Iterator[tuple[Tensor, Place]]:
    """x [B, ...] at each time of `grid` but the first, and where each sample stood by then.

    Every sample has its own step size and error norm, so it depends on no other. The grid only says
    what to report: between two steps that is the cubic through both ends. The last step of a
    sample ends at the last time exactly.

    Raises:
        DivergedError: the field is not finite, or so rough that a step got too small for float64.
    """
    start, end = float(grid[0]), float(grid[-1])
    # float64: the sum of many small steps.
    time = torch.full((len(x),), start, dtype=torch.float64, device=x.device)
    place = before = Place(time, x, field(x, time.to(x.dtype)))
    size = first_size(field, place, rtol, atol, direction=1 if end > start else -1)
    for target in grid[1:].tolist():
        while (late := abs(place.time - start) < abs(target - start)).any():
            left = end - place.time  # [B], negative when time runs backwards
            # Samples that have passed the target wait, with a step of 0.
            step = torch.where(late, size.sign() * torch.minimum(size.abs(), left.abs()), 0)
            following, error = trial(field, place, step, rtol, atol)
            # All the way means to the end itself, whatever the sum rounds to.
            following.time = torch.where(step == left, end, following.time)
            stuck = late & (~error.isfinite() | (following.time == place.time))
            if stuck.any():
                raise DivergedError(
                    f"sampling stopped at time {float(place.time[stuck][0]):.4g}: the model's "
                    "output is not finite or too rough for an adaptive step. Try a fixed method."
                )
            accepted = late & (error <= 1)  # in units of the tolerance
            before, place = before.moved(accepted, place), place.moved(accepted, following)
            size = torch.where(late, next_size(step, error), size)  # after rejected steps too
        yield between(before, place, target), place


def trial(
    field: Field, place: Place, step: Tensor, rtol: float, atol: float
) -> tuple[Place, Tensor]:
    """The place after a step, and its error in units of the tolerance, root mean square, [B]."""
    slopes, x = slopes_of(field, place.x, place.time, step, place.slope, DORMAND_PRINCE)
    differences = tuple(
        high - low for high, low in zip(DORMAND_PRINCE.weights, FOURTH_ORDER, strict=True)
    )
    error = per_sample(step, x).to(x.dtype) * weighted(slopes, differences)
    allowed = atol + rtol * torch.maximum(place.x.abs(), x.abs())
    # The last stage is at the solution itself, so its slope is the first of the next step.
    return Place(place.time + step, x, slopes[-1]), size_of(error / allowed)


def size_of(x: Tensor) -> Tensor:
    """Root mean square of each sample, [B] in float64."""
    return x.flatten(1).double().square().mean(dim=1).sqrt()  # float64: x is a whole image


def next_size(step: Tensor, error: Tensor) -> Tensor:
    """0.9 of the step that would have had an error of 1; 0.2 to 10 times the last one."""
    factor = (0.9 * error.clamp(min=1e-10) ** (-1 / 5)).clamp(0.2, 10)  # the error grows as h^5
    return step * torch.where(error < 1, factor.clamp(min=1), factor)  # no shorter after success


def first_size(field: Field, place: Place, rtol: float, atol: float, direction: int) -> Tensor:
    """A cautious first step [B], with its sign (Hairer, Norsett & Wanner, vol. I, sec. II.4)."""
    allowed = atol + rtol * place.x.abs()
    value, slope = size_of(place.x / allowed), size_of(place.slope / allowed)
    known = (value >= 1e-5) & (slope >= 1e-5)
    guess = torch.where(known, 0.01 * value / slope.clamp(min=1e-5), 1e-6)
    step = (direction * guess).to(place.x.dtype)
    x = place.x + per_sample(step, place.x) * place.slope  # Euler
    change = field(x, (place.time + step).to(x.dtype)) - place.slope  # about step * x''
    largest = torch.maximum(slope, size_of(change / allowed) / guess)
    better = (0.01 / largest.clamp(min=1e-15)) ** (1 / 5)
    better = torch.where(largest <= 1e-15, (guess * 1e-3).clamp(min=1e-6), better)
    return direction * torch.minimum(100 * guess, better)


def between(before: Place, after: Place, time: float) -> Tensor:
    """x [B, ...] at a time between two places: the cubic with their values and slopes."""
    length = after.time - before.time
    h, u = (  # length of the step, and the place in it from 0 to 1
        per_sample(part, after.x).to(after.x.dtype)
        for part in (length, (time - before.time) / length)
    )
    start = (1 + 2 * u) * before.x + u * h * before.slope
    end = (3 - 2 * u) * after.x - (1 - u) * h * after.slope
    return (1 - u).square() * start + u.square() * end
