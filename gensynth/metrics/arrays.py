"""Arrays that a caller gives, checked, as tensors; and distances between their rows by blocks."""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gensynth.errors import UsageError

Array = np.ndarray | Tensor
BLOCK = 2048  # rows a side of a block of distances: 32 MiB in float64


def as_tensor(name: str, value: Array) -> Tensor:
    """The same finite numbers in their own precision, float32 at least; not copied if they are so.

    Raises:
        UsageError: NaN or infinite values.
    """
    if isinstance(value, Tensor):
        tensor = value.detach().to(torch.promote_types(value.dtype, torch.float32))
    else:
        array = np.asarray(value)
        with warnings.catch_warnings():
            # An array mapped from a file is read-only; nothing here writes to it.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(
                np.ascontiguousarray(array, np.result_type(array.dtype, np.float32))
            )
    if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
        raise UsageError(f"{name} holds NaN or infinite values; look at where it comes from.")
    return tensor


def as_rows(name: str, value: Array) -> Tensor:
    """Features [N, D] as a tensor, see `as_tensor`.

    Raises:
        UsageError: another shape, or NaN or infinite values.
    """
    rows = as_tensor(name, value)
    if rows.ndim != 2:
        raise UsageError(f"{name} must be rows of features [N, D], got {tuple(rows.shape)}.")
    return rows


def as_pair(real: Array, fake: Array) -> tuple[Tensor, Tensor]:
    """Two sets of features [N, D] and [M, D] on the device of the first, see `as_rows`.

    Raises:
        UsageError: other shapes, or NaN or infinite values.
    """
    one, other = as_rows("real", real), as_rows("fake", fake)
    if one.shape[1] != other.shape[1] or not (len(one) and len(other)):
        raise UsageError(
            "real and fake must be rows of features of one length, got "
            f"{tuple(one.shape)} and {tuple(other.shape)}."
        )
    return one, other.to(one.device)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances [N, M] of the rows of float64 [N, D] and [M, D]."""
    norms = x.square().sum(1)[:, None] + y.square().sum(1)  # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y
    squared = torch.addmm(norms, x, y.T, alpha=-2)
    # Less than this is rounding of the difference: copies are at distance 0.
    return torch.where(squared > 1e-13 * norms, squared, 0.0)


def pair_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows of x, rows of y, and their squared distances in float64, until every pair was there.

    float64: in float32 the distances would depend on the size of the blocks and, on a GPU, on
    TF32, and a neighbour that is as far as another would be in or out by chance.
    """
    for top in range(0, len(x), BLOCK):
        rows = slice(top, min(top + BLOCK, len(x)))
        block = x[rows].double()
        for left in range(0, len(y), BLOCK):
            columns = slice(left, min(left + BLOCK, len(y)))
            yield rows, columns, squared_distances(block, y[columns].double())
