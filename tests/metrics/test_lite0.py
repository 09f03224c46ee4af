from pathlib import Path

import pyarrow.parquet
import pytest
import torch
import torch.nn.functional as F

from gensynth.data.images import center_crop, decode, to_tensor
from gensynth.metrics.frechet import FrechetDistance

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "imagenet1k-sample" / "train.parquet"


def test_dimensions(lite0):
    features = lite0(torch.zeros(2, 3, 20, 30, dtype=torch.uint8))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        name: (2, dim) for name, dim in lite0.dims.items()
    }
    assert {value.dtype for value in features.values()} == {torch.float32}


def test_grey_is_grey_in_colour(lite0, fashion):
    grey, colour = lite0(fashion[:4]), lite0(fashion[:4].repeat(1, 3, 1, 1))
    for name in lite0.dims:
        torch.testing.assert_close(grey[name], colour[name], rtol=0, atol=0)


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
def against_fashion(lite0, fashion):
    metric = FrechetDistance(lite0)
    metric.update(fashion, real=True)
    return metric


@pytest.mark.parametrize("degrade", [blurred, noisy])
def test_the_distance_grows_with_the_damage(against_fashion, fashion, degrade):
    metric, distances = against_fashion, []
    for strength in {blurred: (1, 3, 9), noisy: (0, 8, 40)}[degrade]:
        metric.reset_generated()
        metric.update(degrade(fashion, strength), real=False)
        distances.append(metric.compute()["s112"])
    assert distances == sorted(distances)
    assert distances[0] == pytest.approx(0, abs=1e-3)
    assert distances[-1] > 2 * distances[1] > 0


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the sample of ImageNet is not on this machine")
def test_the_network_knows_imagenet():
    from gensynth.metrics.lite0 import Lite0Features

    table = next(pyarrow.parquet.ParquetFile(SAMPLE).iter_batches(60)).to_pylist()
    names = list(table[0])
    image = next(name for name in names if isinstance(table[0][name], dict))
    label = next(name for name in names if isinstance(table[0][name], int))
    pictures = [to_tensor(center_crop(decode(row[image]["bytes"]), 224)) for row in table]
    found = Lite0Features(224).classify(torch.stack(pictures)).argmax(1).tolist()
    right = sum(one == row[label] for one, row in zip(found, table, strict=True))
    assert right / 60 >= 0.8
