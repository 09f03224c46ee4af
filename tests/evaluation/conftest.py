"""A small evaluation with everything a page can show."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

CLASSES = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "<script>alert('Sneaker')</script>", "Bag", "Ankle boot"),
]
SAMPLES, REAL = 80, 320
COPY, COPIED = 5, 17  # sample 5 is reference image 17


class Pictures:
    """uint8 images [N, C, H, W] with labels, as `gensynth.evaluation.measuring.features.Images`."""

    lossy = False
    texts = None

    def __init__(self, name: str, pixels: Tensor, labels: list[int] | None = None, classes=None):
        self.name, self.pixels, self.length = name, pixels, len(pixels)
        self.fingerprint = f"{name} {pixels.double().mean()} {len(pixels)}"
        self.labels = None if labels is None else labels.__getitem__
        self.classes = classes

    def read(self, index: int) -> Tensor:
        return self.pixels[index]

    def batches(
        self, indices: Sequence[int], batch_size: int = 64, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.tensor(indices, dtype=torch.int64).split(batch_size):
            yield part, self.pixels[part]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Features are kept here and not in the user's folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENSYNTH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def make_pictures() -> Callable:
    """`Pictures`."""
    return Pictures


@pytest.fixture(scope="session")
def fashion_sets() -> tuple[Pictures, Pictures]:
    """Noisy samples, one of them a copy, and real images, with classes."""
    from gensynth.data.files.image_set import open_images

    images = open_images("fashion_mnist:test")
    pixels = torch.stack([images.read(index) for index in range(SAMPLES + REAL)])
    labels = [images.labels(index) for index in range(SAMPLES + REAL)]
    real, drawn = pixels[:REAL], pixels[REAL:].clone()
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(0))
    strength = torch.linspace(0, 60, SAMPLES)[:, None, None, None]
    drawn = (drawn + strength * noise).clamp(0, 255).byte()
    drawn[COPY] = real[COPIED]
    return (
        Pictures("drawn with <b>noise</b> & more", drawn, labels[REAL:], CLASSES),
        Pictures("Fashion-MNIST", real, labels[:REAL], CLASSES),
    )


@pytest.fixture(scope="session")
def lite0_extractor():
    from gensynth.metrics.extractors import open_extractor

    return open_extractor("lite0-64")


@pytest.fixture(scope="session")
def means_extractor():
    """A space like Inception's, of a few means of pixels."""
    from torch.nn.functional import adaptive_avg_pool2d

    from gensynth.metrics.extractors.extractor import Extractor

    class Means(Extractor):
        def __init__(self):
            super().__init__("means", "none", {"pool": 16, "spatial": 64}, "0" * 64, False)
            self.register_buffer("here", torch.zeros(()))  # which says the device

        def preprocess(self, images: Tensor) -> Tensor:
            return images[:, 0].float() / 255

        def features(self, pixels: Tensor) -> dict[str, Tensor]:
            sides = {"pool": 4, "spatial": 8}
            return {k: adaptive_avg_pool2d(pixels, n).flatten(1) for k, n in sides.items()}

    return Means()


@pytest.fixture(scope="session")
def evaluated(fashion_sets, lite0_extractor):
    """What was measured, and its report."""
    from gensynth.evaluation.measuring.measure import measure
    from gensynth.evaluation.report.report import describe

    measured = measure(*fashion_sets, lite0_extractor)
    return measured, describe(measured, "gensynth evaluate 'a <folder>' --reference real", 0)
