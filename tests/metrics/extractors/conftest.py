"""Extractors that several tests share, and filters computed in the plainest way."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.inception_features import PUBLISHED, random_inception


@pytest.fixture(scope="session")
def inception():
    return open_extractor("random-inception-0")


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """Those of `inception` in the layout of the published file."""
    path = tmp_path_factory.mktemp("weights") / PUBLISHED.names[1]
    counters = {"Mixed_5b.branch1x1.bn.num_batches_tracked": torch.tensor(3)}
    torch.save({**random_inception(0).tensors, **counters}, path)
    return path


@pytest.fixture(scope="session")
def coloured() -> Callable[..., torch.Tensor]:
    """Random uint8 images: `coloured(count, height, width, channels)`, some of them with edges."""

    def make(count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
        generator = torch.Generator().manual_seed(height * 1000 + width)
        images = torch.randint(0, 256, (count, channels, height, width), generator=generator)
        images[::2, :, :, : width // 2] = 0
        images[::2, :, :, width // 2 :] = 255
        return images.to(torch.uint8)

    return make


def cubic(x: float, a: float) -> float:
    """Keys' cubic at distance `x` from its centre."""
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


@pytest.fixture(scope="session")
def bicubic_matrix() -> Callable[..., np.ndarray]:
    """One dimension of a bicubic resize as a matrix [new, old].

    With `antialias` as Pillow and PyTorch do it: the cubic (a = -1/2) is stretched where the image
    shrinks, and cut off at the border; without, a = -3/4 and the border pixel is repeated.
    """

    def make(old: int, new: int, step: float, antialias: bool) -> np.ndarray:
        matrix = np.zeros((new, old))
        stretch, a = (max(step, 1.0), -0.5) if antialias else (1.0, -0.75)
        for row in range(new):
            centre = (row + 0.5) * step - 0.5
            for place in range(
                math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1
            ):
                weight = cubic(abs(place - centre) / stretch, a)
                if 0 <= place < old:
                    matrix[row, place] += weight
                elif not antialias:
                    matrix[row, min(max(place, 0), old - 1)] += weight
        return matrix / matrix.sum(axis=1, keepdims=True)

    return make
