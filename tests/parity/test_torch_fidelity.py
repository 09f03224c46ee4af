"""With torch-fidelity installed: the same features bit for bit, and the same FID."""

import pyarrow.parquet
import pytest
import torch
from reference import FOLDER

from gensynth.config import Data
from gensynth.data.images import decode, to_tensor
from gensynth.data.sources import open_source
from gensynth.data.training import prepare
from gensynth.evaluation.checking.cross_check import their_network
from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.inception_features import random_inception
from gensynth.metrics.frechet import frechet_distance

metric_fid = pytest.importorskip(
    "torch_fidelity.metric_fid", reason="torch-fidelity is not installed"
)
CIFAR10 = FOLDER.parent / "data" / "cifar10" / "test.parquet"
NUM_IMAGES = 256


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """uint8 [256, 1 or 3, 32, 32]: real ones."""
    if CIFAR10.is_file():
        rows = next(pyarrow.parquet.ParquetFile(CIFAR10).iter_batches(NUM_IMAGES)).to_pylist()
        column = next(name for name, value in rows[0].items() if isinstance(value, dict))
        return torch.stack([to_tensor(decode(row[column]["bytes"])) for row in rows])
    data = Data(split="test", channels=1, fit="pad")
    rows = open_source(data).rows
    return torch.stack([prepare(rows[index], data) for index in range(NUM_IMAGES)])


@pytest.fixture(scope="module")
def features(images, tmp_path_factory) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the images, from our extractor and from torch-fidelity's, with the same weights."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(random_inception(0).tensors, path)
    extractor = open_extractor("inception-2015", path)
    batches = images.split(32)
    ours = torch.cat([extractor(batch)["pool"] for batch in batches])
    network = their_network(path)
    with torch.inference_mode():
        theirs = torch.cat([network(batch.expand(-1, 3, -1, -1))[0] for batch in batches])
    return ours, theirs


@pytest.mark.slow
def test_the_same_features_bit_for_bit(features):
    ours, theirs = features
    assert ours.shape == theirs.shape == (NUM_IMAGES, 2048)
    assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_the_same_fid(features):
    """Of one half against the other, by the code of each."""
    ours, theirs = features
    statistics = [metric_fid.fid_features_to_statistics(half) for half in theirs.chunk(2)]
    expected = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    expected = expected["frechet_inception_distance"]
    moments = [(half.mean(dim=0), half.T.cov()) for half in ours.double().chunk(2)]
    distance = frechet_distance(*moments[0], *moments[1])
    # With fewer images than features its eigenvalues of a matrix that is not symmetric lose digits.
    assert distance == pytest.approx(expected, rel=1e-4)
