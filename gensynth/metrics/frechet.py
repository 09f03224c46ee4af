"""The Fréchet distance of two sets of images in any feature space."""

from typing import Any, Protocol

import torch
from torch import Tensor
from torchmetrics import Metric


class Extractor(Protocol):
    """uint8 images [B, 1 or 3, H, W] -> named float features [B, dims[name]]."""

    name: str
    dims: dict[str, int]

    def __call__(self, images: Tensor) -> dict[str, Tensor]: ...


class FrechetDistance(Metric):
    """FD of generated and real images, one number for each feature the extractor names.

    Sums are float64 and add up over batches, processes (torchmetrics reduces them) and runs.

    Args:
        extractor: the feature space; its preprocessing belongs to it.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False

    def __init__(self, extractor: Extractor, **kwargs: Any):
        super().__init__(**kwargs)
        self.extractor = extractor
        for side in ("real", "generated"):
            self.add_state(f"{side}_count", torch.zeros((), dtype=torch.int64), "sum")
            for name, dim in extractor.dims.items():
                zeros = torch.zeros(dim, dtype=torch.float64)
                self.add_state(f"{side}_{name}_sum", zeros, "sum")
                self.add_state(f"{side}_{name}_outer", torch.outer(zeros, zeros), "sum")

    @torch.inference_mode()
    def update(self, images: Tensor, real: bool) -> None:
        """Takes in uint8 images [B, 1 or 3, H, W] of one side."""
        side = "real" if real else "generated"
        setattr(self, f"{side}_count", getattr(self, f"{side}_count") + len(images))
        for name, features in self.extractor(images).items():
            # float64 before the product: float32 sums lose small covariances.
            features = features.double()
            for kind, value in (("sum", features.sum(0)), ("outer", features.T @ features)):
                state = f"{side}_{name}_{kind}"
                setattr(self, state, getattr(self, state) + value)

    def compute(self) -> dict[str, float]:
        """Feature name -> distance.

        Raises:
            ValueError: fewer than two images on one side.
        """
        generated, real = int(self.count_of("generated")), int(self.count_of("real"))
        if min(generated, real) < 2:
            raise ValueError(
                f"a distance needs two images a side, got {generated} generated and {real} real"
            )
        return {
            name: frechet_distance(*self.moments("generated", name), *self.moments("real", name))
            for name in self.extractor.dims
        }

    def reset_generated(self) -> None:
        """Forgets the generated images and keeps the real ones, to compare others with them."""
        self._computed = None
        for state, default in self._defaults.items():
            if state.startswith("generated"):
                assert isinstance(default, Tensor)
                setattr(self, state, default.clone().to(self.device))

    def count_of(self, side: str) -> Tensor:
        """Number of images of one side, int64."""
        return getattr(self, f"{side}_count")

    def moments(self, side: str, name: str) -> tuple[Tensor, Tensor]:
        """Mean [D] and covariance [D, D] (divisor N - 1) of one side, float64."""
        count = self.count_of(side)
        total, outer = getattr(self, f"{side}_{name}_sum"), getattr(self, f"{side}_{name}_outer")
        mean = total / count
        return mean, (outer - torch.outer(total, mean)) / (count - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """|mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)) (arXiv 1706.08500, eq. 6).

    The trace of the root is the sum of the roots of the eigenvalues of R^T cov2 R with
    R R^T = cov1: symmetric throughout, and right also with fewer images than features.
    """
    values, vectors = torch.linalg.eigh(cov1)
    root = vectors * values.clamp(min=0).sqrt()
    product = root.T @ cov2 @ root
    roots = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * roots
    return max(0.0, float(distance))
