"""Mean and covariance of features, from sums that add up over batches, processes and runs."""

from dataclasses import InitVar, dataclass, replace

import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_rows, as_tensor

ROUNDING = 1e-5  # of statistics that were stored in float32, relative
ROUNDING_OF_SUMS = 1e-13  # of thousands of squares in float64, relative
PROBES = 4  # vectors that a root is tried on
ROWS = 4096  # taken into the sums at a time


def root_of(covariance: Tensor) -> Tensor:
    """R [D, D] with R R^T = covariance [D, D], in its precision.

    The Cholesky factor, which costs a fiftieth of the eigenvectors; of a matrix that has none
    (fewer images than features, or features that never vary) V sqrt(w) with the eigenvectors V and
    eigenvalues w, where eigenvalues that are rounding are 0.

    Raises:
        UsageError: an eigenvalue below 0, so no covariance.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)  # _ex: reports instead of raising
    if not failed:
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    check_not_negative(values, covariance.norm())
    # numpy.linalg.matrix_rank takes the same bound for what is 0
    rounding = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    return vectors * torch.where(values > rounding, values, 0.0).sqrt()


def check_not_negative(eigenvalues: Tensor, scale: Tensor) -> None:
    """
    Raises:
        UsageError: one is below 0 by more than the rounding of matrices as large as `scale`.
    """
    if (eigenvalues < -ROUNDING * scale).any():
        raise UsageError(
            "a covariance matrix has eigenvalues below 0, so it is not one; look at its source."
        )


def _is_root(root: Tensor, covariance: Tensor) -> bool:
    """Whether R R^T x is covariance x for a few fixed normal vectors x, without the product R R^T.

    For normal x the norm of A x is on average that of A, here the Frobenius norm.
    """
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(len(root), PROBES, generator=generator, dtype=torch.float64)
    probes = probes.to(root.device)
    difference = root @ (root.T @ probes) - covariance @ probes
    return bool(difference.norm() <= ROUNDING * PROBES**0.5 * covariance.norm())


@dataclass(eq=False)
class Statistics:
    """Moments of a set of features, float64.

    Args:
        mean: [D]; arrays of any float type are taken.
        covariance: [D, D], divisor count - 1.
        count: number of images; None if it is not known.
        root: [D, D] with root root^T = covariance; see `root_of`.
        names: what the mean, the covariance and the root are called in an error.

    Raises:
        UsageError: shapes that do not fit, NaN or infinite values, or no covariance matrix.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None
    root: Tensor | None = None
    names: InitVar[tuple[str, str, str]] = ("mean", "covariance", "root")

    def __post_init__(self, names: tuple[str, str, str]) -> None:
        mean, covariance, root = names
        # float64 from here on: a distance is a small difference of large traces
        self.mean = as_tensor(mean, self.mean).double()
        self.covariance = self._square(covariance, self.covariance, mean)
        largest = float(self.covariance.abs().max())
        asymmetry = float((self.covariance - self.covariance.T).abs().max())
        smallest = float(self.covariance.diagonal().min())
        if max(asymmetry, -smallest) > ROUNDING * largest:
            raise UsageError(
                f"{covariance} is no covariance matrix: it is not symmetric, or a variance in it "
                "is negative."
            )
        if self.root is not None:
            self.root = self._square(root, self.root, mean)
            if not _is_root(self.root, self.covariance):
                raise UsageError(f"{root} is not a root of {covariance}; leave it out.")

    def _square(self, name: str, value: Array, mean: str) -> Tensor:
        matrix = as_tensor(name, value).double().to(self.mean.device)
        dim = self.mean.numel()
        if self.mean.ndim != 1 or not dim or matrix.shape != (dim, dim):
            raise UsageError(
                f"{mean} must be [D] and {name} [D, D], got {tuple(self.mean.shape)} and "
                f"{tuple(matrix.shape)}."
            )
        return matrix

    @classmethod
    def of(cls, features: Array) -> "Statistics":
        """Those of features [N, D].

        Raises:
            UsageError: fewer than two rows, another shape, or NaN or infinite values.
        """
        rows = as_rows("features", features)
        sums = GroupedSums.zeros(rows.shape[1], device=rows.device)
        for part in rows.split(ROWS):
            sums.add(part, torch.zeros(len(part), dtype=torch.int64))
        return sums.statistics()

    def with_root(self) -> "Statistics":
        """Itself, with its root computed if it was not yet."""
        if self.root is None:
            self.root = root_of(self.covariance)
        return self

    def to(self, device: torch.device) -> "Statistics":
        """The same on a device; itself if it is there."""
        if self.mean.device == device:
            return self
        root = None if self.root is None else self.root.to(device)
        return replace(
            self,
            mean=self.mean.to(device),
            covariance=self.covariance.to(device),
            root=root,
            names=("mean", "covariance", "root"),
        )


@dataclass(eq=False)
class GroupedSums:
    """Sums over the features of G groups of images, float64: what any split of the images, any
    order of the parts and any number of processes adds up to.

    Attributes:
        count: number of images [G], int64.
        total: sum of x [G, D].
        outer: sum of x x^T [G, D, D].
    """

    count: Tensor
    total: Tensor
    outer: Tensor

    @classmethod
    def zeros(cls, dim: int, groups: int = 1, device: torch.device | None = None) -> "GroupedSums":
        """Those of no images."""
        count = torch.zeros(groups, dtype=torch.int64, device=device)
        outer = torch.zeros(groups, dim, dim, dtype=torch.float64, device=device)
        return cls(count, torch.zeros_like(outer[..., 0]), outer)

    def add(self, features: Tensor, index: Tensor) -> None:
        """Takes in features [B, D] of the images with these numbers [B], in place.

        The group of an image depends on its number alone, see `group_of`.
        """
        groups = group_of(index, len(self.count)).to(features.device)
        for group in groups.unique().tolist():
            # float64 before the product: float32 sums lose small covariances.
            rows = features[groups == group].double()
            self.count[group] += len(rows)
            self.total[group] += rows.sum(0)
            self.outer[group].addmm_(rows.T, rows)  # [D, B] @ [B, D], in place

    def statistics(self, without: int | None = None) -> Statistics:
        """Moments of all images, or of all but one group.

        Raises:
            UsageError: fewer than two images.
        """
        count, total, outer = (part.sum(0) for part in (self.count, self.total, self.outer))
        if without is not None:
            count = count - self.count[without]
            # cheaper than adding up the others; `sum` made copies, so this is in place
            total -= self.total[without]
            outer -= self.outer[without]
        number = int(count)
        if number < 2:
            raise UsageError(f"a covariance needs two images, got {number}.")
        squares = outer.diagonal().clone()
        # (sum x x^T - total total^T / n) / (n - 1)
        covariance = outer.addr_(total, total, alpha=-1 / number).div_(number - 1)
        # A feature that never varies has variance 0, not the rounding of its squares.
        constant = covariance.diagonal() * (number - 1) <= ROUNDING_OF_SUMS * squares
        covariance[constant] = 0
        covariance[:, constant] = 0
        return Statistics(total / number, covariance, number)


def group_of(index: Tensor, groups: int) -> Tensor:
    """The group of images with these numbers: the sum of the number's digits in base `groups`.

    Every `groups` images in a row are in different groups. The last digit alone would put whole
    classes into a group where labels are drawn in turn, and the groups would differ by class.
    """
    if groups == 1:
        return torch.zeros_like(index)
    total, rest = torch.zeros_like(index), index.clone()
    while bool(rest.any()):
        total += rest % groups
        rest //= groups
    return total % groups
