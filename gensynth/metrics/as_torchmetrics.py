"""The metrics as torchmetrics objects, for a loop of your own: `update` each batch, then `compute`.

Apart from the functions they call, because torchmetrics takes seconds to import.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.feature_metric import FeatureMetric, StoredFeatures, side_of
from gensynth.metrics.frechet import FrechetEstimate, distance_terms, frechet_estimate
from gensynth.metrics.kernel import Kernel, cmmd, kernel_distance
from gensynth.metrics.manifold import density_coverage, precision_recall
from gensynth.metrics.moments import GroupedSums, Statistics
from gensynth.metrics.scores import inception_score


class FrechetDistance(FeatureMetric):
    """FD of generated and real images in a feature space; its sums add up over processes.

    Args:
        dim: length D of a feature.
        reference: moments of the real images; if left out, they come in by `update(real=True)`.
        groups: number of groups for the standard error; image i is in group `group_of(i)`, see
            `gensynth.metrics.moments`. They take 8 groups D^2 bytes.
        extractor: uint8 images [B, C, H, W] -> features [B, D]; `update` then takes images.

    Raises:
        UsageError: a reference with features of another length, or no group.
    """

    higher_is_better = False

    def __init__(
        self,
        dim: int,
        *,
        reference: Statistics | None = None,
        groups: int = 10,
        extractor: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ):
        super().__init__(dim, extractor, **kwargs)
        if reference is not None and len(reference.mean) != dim:
            raise UsageError(f"the reference has {len(reference.mean)} features, not {dim}.")
        if groups < 1:
            raise UsageError(f"groups must be at least 1, got {groups}.")
        self.reference = reference
        self._add_sums("generated", groups)
        if reference is None:
            self._add_sums("real", 1)

    def _add_sums(self, side: str, groups: int) -> None:
        for name, zeros in vars(GroupedSums.zeros(self.dim, groups)).items():
            self.add_state(f"{side}_{name}", zeros, "sum")  # added up over processes

    def _sums(self, real: bool) -> GroupedSums:
        side = side_of(real)
        return GroupedSums(
            *(getattr(self, f"{side}_{name}") for name in ("count", "total", "outer"))
        )

    def _count(self, real: bool) -> int:
        if real and self.reference is not None:
            return self.reference.count or 0
        return int(self._sums(real).count.sum())

    def _take(self, features: Tensor, index: Tensor, real: bool) -> None:
        if real and self.reference is not None:
            raise UsageError("the real images are given by the reference; leave one of them out.")
        self._sums(real).add(features, index)

    def _enough(self, real: bool) -> GroupedSums:
        sums = self._sums(real)
        number = int(sums.count.sum())
        if number < 2:
            raise UsageError(
                f"a distance needs two images a side, got {number} {side_of(real)} so far."
            )
        return sums

    def _statistics(self, real: bool) -> Statistics:
        if not real or self.reference is None:
            return self._enough(real).statistics()
        self.reference = self.reference.to(self.device)
        return self.reference

    def compute(self) -> Tensor:
        """The distance, float64 [].

        Raises:
            UsageError: fewer than two images on one side.
        """
        terms = distance_terms(self._statistics(True), self._statistics(False))
        return torch.tensor(sum(terms), dtype=torch.float64, device=self.device)

    def estimate(self) -> FrechetEstimate:
        """The distance and how sure it is, over all processes; see `frechet_estimate`.

        Raises:
            UsageError: fewer than two images on one side.
        """
        # what torchmetrics does around `compute`, and around nothing else
        with self.sync_context(self.dist_sync_fn, should_sync=self._to_sync):
            return frechet_estimate(self._statistics(True), self._enough(False))

    def statistics(self, real: bool) -> Statistics:
        """Moments of one side over all processes.

        Raises:
            UsageError: fewer than two images.
        """
        with self.sync_context(self.dist_sync_fn, should_sync=self._to_sync):
            return self._statistics(real)

    def reset_generated(self) -> None:
        """Forgets the generated images and keeps the real ones, for other samples."""
        self._computed = None  # torchmetrics keeps the last result until an update
        for part in vars(self._sums(False)).values():
            part.zero_()


class KernelDistance(StoredFeatures):
    """`kernel_distance` of what `update` took in.

    Args:
        dim: length D of a feature.
        subsets, subset_size, seed, kernel: those of `kernel_distance`.
        extractor: uint8 images [B, C, H, W] -> features [B, D]; `update` then takes images.
    """

    higher_is_better = False

    def __init__(
        self,
        dim: int,
        *,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 2020,
        kernel: Kernel | None = None,
        extractor: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ):
        super().__init__(dim, extractor, **kwargs)
        self.subsets, self.subset_size, self.seed, self.kernel = subsets, subset_size, seed, kernel

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over subsets, float64 [].

        Raises:
            UsageError: a subset is larger than a set.
        """
        mean, deviation = kernel_distance(
            self.stored(real=True),
            self.stored(real=False),
            subsets=self.subsets,
            subset_size=self.subset_size,
            seed=self.seed,
            kernel=self.kernel,
        )
        return self.scalar(mean), self.scalar(deviation)


class CMMD(StoredFeatures):
    """`cmmd` of what `update` took in.

    Args:
        dim: length D of an embedding.
        sigma: width of the kernel.
        extractor: uint8 images [B, C, H, W] -> embeddings [B, D]; `update` then takes images.
    """

    higher_is_better = False

    def __init__(
        self,
        dim: int = 768,
        *,
        sigma: float = 10.0,
        extractor: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ):
        super().__init__(dim, extractor, **kwargs)
        self.sigma = sigma

    def compute(self) -> Tensor:
        """The distance, float64 []."""
        return self.scalar(cmmd(self.stored(real=True), self.stored(real=False), sigma=self.sigma))


class NeighbourMetric(StoredFeatures):
    """Base of metrics by balls around the features that `update` took in.

    Args:
        dim: length D of a feature.
        k: which neighbour a ball reaches; None for that of the function.
        extractor: uint8 images [B, C, H, W] -> features [B, D]; `update` then takes images.
    """

    higher_is_better = True
    function: Callable[..., tuple[float, float]]

    def __init__(
        self,
        dim: int,
        *,
        k: int | None = None,
        extractor: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ):
        super().__init__(dim, extractor, **kwargs)
        self.options = {} if k is None else {"k": k}

    def compute(self) -> tuple[Tensor, Tensor]:
        """Both numbers, float64 [].

        Raises:
            UsageError: not more than k images.
        """
        found = self.function(self.stored(True), self.stored(False), **self.options)
        return self.scalar(found[0]), self.scalar(found[1])


class PrecisionRecall(NeighbourMetric):
    """`precision_recall` of what `update` took in; arguments as of `NeighbourMetric`."""

    function = staticmethod(precision_recall)


class DensityCoverage(NeighbourMetric):
    """`density_coverage` of what `update` took in; arguments as of `NeighbourMetric`."""

    function = staticmethod(density_coverage)


class InceptionScore(StoredFeatures):
    """`inception_score` of the generated images that `update` took in; real ones play no part.

    Args:
        dim: number C of classes.
        splits, seed: those of `inception_score`.
        extractor: uint8 images [B, C, H, W] -> logits [B, C]; `update` then takes images.
    """

    higher_is_better = True

    def __init__(
        self,
        dim: int = 1008,
        *,
        splits: int = 10,
        seed: int | None = 2020,
        extractor: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ):
        super().__init__(dim, extractor, **kwargs)
        self.splits, self.seed = splits, seed

    def _take(self, features: Tensor, index: Tensor, real: bool) -> None:
        if not real:
            super()._take(features, index, real)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over splits, float64 [].

        Raises:
            UsageError: fewer images than splits.
        """
        mean, deviation = inception_score(self.stored(real=False), self.splits, seed=self.seed)
        return self.scalar(mean), self.scalar(deviation)
