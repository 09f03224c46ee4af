"""What every feature space offers: named float32 features of uint8 images."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from gensynth.errors import UsageError
from gensynth.ops.precision import without_autocast


class Extractor(nn.Module):
    """A frozen network with the preprocessing that belongs to it.

    `forward(images)` takes uint8 [B, 1 or 3, H, W] of any one size, on any device, and returns
    float32 {feature: [B, dims[feature]]} on the device of the network. An image's features do not
    depend on TF32, autocast or cuDNN's autotuner, whatever the caller has set.

    Args:
        name: of the feature space, as results carry it.
        preprocessing: one line, for the same.
        dims: feature -> number of its components.
        weights_sha256: of the file that the weights came from.
        official: whether that is the published file.
    """

    version = 1  # to be raised by a change of the code that changes features

    def __init__(
        self,
        name: str,
        preprocessing: str,
        dims: dict[str, int],
        weights_sha256: str,
        official: bool,
    ):
        super().__init__()
        self.name, self.preprocessing, self.dims = name, preprocessing, dims
        self.weights_sha256, self.official = weights_sha256, official

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; features with different ones must not be compared."""
        parts = (self.name, self.preprocessing, self.weights_sha256, str(self.version))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def device(self) -> torch.device:
        return next(chain(self.parameters(), self.buffers())).device

    @torch.inference_mode()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise UsageError(
                f"{self.name} takes uint8 images [B, 1 or 3, H, W], got {images.dtype} "
                f"{list(images.shape)}. Round floats to whole levels first."
            )
        images = images.to(self.device, non_blocking=True)  # as uint8, a quarter of the bytes
        with exact_float32(), without_autocast(images):
            return self.features(self.preprocess(images.expand(-1, 3, -1, -1)))

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> what the network sees, float32 [B, 3, side, side]."""
        raise NotImplementedError

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        """Preprocessed images -> named features [B, dim], float32."""
        raise NotImplementedError


@contextmanager
def exact_float32() -> Iterator[None]:
    """Inside, float32 operations keep all digits and are chosen by shape, not by a stopwatch.

    The settings of the process are as before when the block ends.
    """
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    units = (cuda.matmul, cudnn.conv, mkldnn.matmul, mkldnn.conv)  # type: ignore[attr-defined]
    precisions, benchmark = [unit.fp32_precision for unit in units], cudnn.benchmark
    try:
        for unit in units:
            unit.fp32_precision = "ieee"
        cudnn.benchmark = False  # it would choose another algorithm on another day
        yield
    finally:
        for unit, precision in zip(units, precisions, strict=True):
            unit.fp32_precision = precision
        cudnn.benchmark = benchmark
