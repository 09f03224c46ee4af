from pathlib import Path

import pyarrow.parquet
import pytest
import torch
import torch.nn.functional as F

from gensynth.data.images import center_crop, decode, to_tensor
from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.lite0 import Lite0Features
from gensynth.metrics.frechet import frechet_distance

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "imagenet1k-sample" / "train.parquet"


@pytest.fixture(scope="module")
def lite0():
    return open_extractor("lite0-64")


def test_dimensions(lite0):
    features = lite0(torch.zeros(2, 3, 20, 30, dtype=torch.uint8))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        name: (2, dim) for name, dim in lite0.dims.items()
    }
    assert {value.dtype for value in features.values()} == {torch.float32}


def test_the_weights_are_the_published_ones(lite0):
    assert lite0.official and lite0.name == "lite0-64"
    sizes = [open_extractor(f"lite0-{size}") for size in (128, 224)]
    assert len({lite0.fingerprint, *(other.fingerprint for other in sizes)}) == 3


def test_an_image_does_not_depend_on_its_batch(lite0, fashion):
    together = lite0(fashion[:6])
    for index in range(6):
        for name, value in lite0(fashion[index : index + 1]).items():
            torch.testing.assert_close(value[0], together[name][index], rtol=1e-4, atol=1e-4)


def test_preprocessing_is_that_of_the_training(lite0):
    levels = torch.tensor([0, 127, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 64, 64)
    expected = torch.tensor([-127 / 128, 0, 1])
    torch.testing.assert_close(lite0.preprocess(levels)[:, 0, 0, 0], expected)


def test_there_is_nothing_to_train_or_save(lite0):
    assert not list(lite0.parameters())
    assert not lite0.state_dict()


def blurred(images: torch.Tensor, width: int) -> torch.Tensor:
    kernel = torch.ones(1, 1, width, width) / width**2
    return F.conv2d(images.float(), kernel, padding=width // 2).round().to(torch.uint8)


def noisy(images: torch.Tensor, strength: int) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + strength * noise).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def moments(lite0):
    """Mean and covariance of stage s112 of images."""

    def make(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = lite0(images)["s112"].double()
        return features.mean(dim=0), features.T.cov()

    return make


@pytest.fixture(scope="module")
def real(moments, fashion):
    return moments(fashion)


@pytest.mark.parametrize("degrade, weak, strong", [(blurred, 3, 9), (noisy, 8, 40)])
def test_the_distance_grows_with_the_damage(moments, real, fashion, degrade, weak, strong):
    little, much = (
        frechet_distance(*moments(degrade(fashion, strength)), *real) for strength in (weak, strong)
    )
    assert frechet_distance(*real, *real) == pytest.approx(0, abs=1e-3)
    assert much > 2 * little > 0.1


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the sample of ImageNet is not on this machine")
def test_the_network_knows_imagenet():
    table = next(pyarrow.parquet.ParquetFile(SAMPLE).iter_batches(60)).to_pylist()
    names = list(table[0])
    image = next(name for name in names if isinstance(table[0][name], dict))
    label = next(name for name in names if isinstance(table[0][name], int))
    pictures = [to_tensor(center_crop(decode(row[image]["bytes"]), 224)) for row in table]
    found = Lite0Features(224).classify(torch.stack(pictures)).argmax(1).tolist()
    right = sum(one == row[label] for one, row in zip(found, table, strict=True))
    assert right / 60 >= 0.8
