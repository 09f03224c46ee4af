"""What the metrics of this folder share: features by index, also in several processes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_rows


class FeatureMetric(Metric):
    """Base of metrics of features of generated and real images.

    Args:
        dim: length D of a feature.
        extractor: uint8 images [B, C, H, W] -> features [B, D]; `update` then takes images.
        kwargs: those of `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, dim: int, extractor: Callable[[Tensor], Tensor] | None, **kwargs: Any):
        super().__init__(**kwargs)
        self.dim, self.extractor = dim, extractor

    def update(
        self,
        features: Array,
        real: bool = False,
        index: Tensor | Sequence[int] | None = None,
    ) -> None:
        """Takes in features [B, D] of one side, or images if there is an extractor.

        Args:
            index: the numbers [B] of these images among those of their side. With them the result
                does not depend on which process had which images. Counted on here if left out.

        Raises:
            UsageError: other shapes, or NaN or infinite features.
        """
        rows = features if self.extractor is None else self.extractor(torch.as_tensor(features))
        rows = as_rows("features", rows).to(self.device)
        if index is None:
            start = self._count(real)
            index = range(start, start + len(rows))
        numbers = torch.as_tensor(index, dtype=torch.int64)
        if rows.shape[1] != self.dim or numbers.shape != rows.shape[:1]:
            raise UsageError(
                f"features must be [B, {self.dim}] and their index [B], got {tuple(rows.shape)} "
                f"and {tuple(numbers.shape)}."
            )
        self._take(rows, numbers.to(self.device), real)

    @abstractmethod
    def _count(self, real: bool) -> int:
        """Number of images of one side so far, in this process."""

    @abstractmethod
    def _take(self, features: Tensor, index: Tensor, real: bool) -> None:
        """Takes in features [B, D] of the images with these numbers [B]."""


def side_of(real: bool) -> str:
    """How the states of one side begin."""
    return "real" if real else "generated"


class StoredFeatures(FeatureMetric):
    """Base of metrics that need every feature; they are kept as float32."""

    def __init__(self, dim: int, extractor: Callable[[Tensor], Tensor] | None, **kwargs: Any):
        super().__init__(dim, extractor, **kwargs)
        for real in (True, False):
            self.add_state(f"{side_of(real)}_features", [], "cat")
            self.add_state(f"{side_of(real)}_index", [], "cat")

    def _count(self, real: bool) -> int:
        return sum(map(len, getattr(self, f"{side_of(real)}_index")))

    def _take(self, features: Tensor, index: Tensor, real: bool) -> None:
        getattr(self, f"{side_of(real)}_features").append(features.float())
        getattr(self, f"{side_of(real)}_index").append(index)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # torchmetrics would stand in for a process without images with a tensor of another type
        # and number of dimensions, which the processes cannot gather.
        for real in (True, False):
            if not getattr(self, f"{side_of(real)}_index"):
                index = torch.zeros(0, dtype=torch.int64, device=self.device)
                self._take(torch.zeros(0, self.dim, device=self.device), index, real)
        super()._sync_dist(*args, **kwargs)

    def stored(self, real: bool) -> Tensor:
        """Features [N, D] of one side in the order of their index.

        Raises:
            UsageError: no image of that side came in.
        """
        side = side_of(real)
        if not len(getattr(self, f"{side}_index")):
            raise UsageError(f"there are no {side} images yet; give some to update.")
        # stable, so that equal numbers stay in the order in which they came in
        order = dim_zero_cat(getattr(self, f"{side}_index")).argsort(stable=True)
        return dim_zero_cat(getattr(self, f"{side}_features"))[order]

    def scalar(self, value: float) -> Tensor:
        """A result as a float64 tensor."""
        return torch.tensor(value, dtype=torch.float64, device=self.device)
