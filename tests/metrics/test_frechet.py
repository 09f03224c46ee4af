import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from gensynth.metrics.frechet import FrechetDistance, frechet_distance

DIM = 6


class Projection(nn.Module):
    """A small feature space: fixed random mixtures of the pixels of 4 x 4 pictures."""

    name = "projection"
    dims = {"a": DIM, "b": 3}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("a", torch.randn(48, DIM, generator=generator) / 100)
        self.register_buffer("b", torch.randn(48, 3, generator=generator) / 100)

    def forward(self, images):
        pixels = images.float().flatten(1)
        return {"a": pixels @ self.a, "b": pixels @ self.b}


def images(count: int, seed: int, high: int = 256) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)


def gaussian(seed: int, dim: int = DIM, rank: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randn(
        rank, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return rows.mean(0) * 5, torch.cov(rows.T)


def test_diagonal_gaussians_have_a_closed_form():
    mean1, mean2 = torch.tensor([1.0, 2, 3]).double(), torch.tensor([0.0, 4, 3]).double()
    std1, std2 = torch.tensor([1.0, 2, 0]).double(), torch.tensor([3.0, 2, 5]).double()
    found = frechet_distance(mean1, torch.diag(std1**2), mean2, torch.diag(std2**2))
    assert found == pytest.approx(5 + 4 + 0 + 25, abs=1e-10)


def test_identity_symmetry_and_scale():
    one, other = gaussian(0), gaussian(1)
    assert frechet_distance(*one, *one) == pytest.approx(0, abs=1e-9)
    forth, back = frechet_distance(*one, *other), frechet_distance(*other, *one)
    assert forth == pytest.approx(back, rel=1e-9)
    assert forth > 0.1
    scaled = frechet_distance(one[0] * 3, one[1] * 9, other[0] * 3, other[1] * 9)
    assert scaled == pytest.approx(9 * forth, rel=1e-9)


def test_a_rotation_changes_nothing():
    one, other = gaussian(0), gaussian(1)
    turn = torch.linalg.qr(gaussian(2)[1])[0]
    turned = [(turn @ mean, turn @ cov @ turn.T) for mean, cov in (one, other)]
    assert frechet_distance(*turned[0], *turned[1]) == pytest.approx(
        frechet_distance(*one, *other), rel=1e-9
    )


@pytest.mark.parametrize("count", [2, 5, 50])
def test_with_fewer_images_than_features(count):
    """tr (C1 C2)^(1/2) is the sum of the singular values of X1 X2^T for centred rows X."""
    generator = torch.Generator().manual_seed(count)
    rows = [torch.randn(count, 64, dtype=torch.float64, generator=generator) for _ in range(2)]
    means = [r.mean(0) for r in rows]
    centred = [(r - m) / (count - 1) ** 0.5 for r, m in zip(rows, means, strict=True)]
    nuclear = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    total = sum((c**2).sum() for c in centred)
    expected = (means[0] - means[1]).square().sum() + total - 2 * nuclear
    found = frechet_distance(means[0], torch.cov(rows[0].T), means[1], torch.cov(rows[1].T))
    assert found == pytest.approx(float(expected), rel=1e-6)


@pytest.fixture
def filled():
    metric = FrechetDistance(Projection())
    metric.update(images(40, 0), real=True)
    metric.update(images(30, 1, 128), real=False)
    return metric


def test_moments_are_those_of_numpy(filled):
    features = Projection()(images(30, 1, 128))["a"].double().numpy()
    mean, cov = filled.moments("generated", "a")
    np.testing.assert_allclose(mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(features.T), rtol=1e-9)


@pytest.mark.parametrize("size", [1, 7, 30])
def test_the_split_into_batches_does_not_matter(filled, size):
    split = FrechetDistance(Projection())
    for batch in images(30, 1, 128).split(size):
        split.update(batch, real=False)
    for batch in images(40, 0).split(size):
        split.update(batch, real=True)
    assert split.compute() == pytest.approx(filled.compute(), rel=1e-6)


def test_states_of_two_metrics_add_up(filled):
    """What torchmetrics does with several processes: every state is reduced by a sum."""
    parts = [FrechetDistance(Projection()) for _ in range(2)]
    for part, real, generated in zip(
        parts, images(40, 0).split(25), images(30, 1, 128).split(10), strict=False
    ):
        part.update(real, real=True)
        part.update(generated, real=False)
    parts[1].update(images(30, 1, 128)[20:], real=False)
    parts[0].merge_state(parts[1])
    assert parts[0].compute() == pytest.approx(filled.compute(), rel=1e-6)
    assert {str(reduction) for reduction in filled._reductions.values()} == {
        str(filled._reductions["real_count"])
    }


def test_the_reference_survives_a_change_of_samples(filled):
    before = filled.compute()
    filled.reset_generated()
    with pytest.raises(ValueError, match="0 generated and 40 real"):
        filled.compute()
    filled.update(images(30, 1, 128), real=False)
    assert filled.compute() == pytest.approx(before)
    filled.reset_generated()
    filled.update(images(40, 0), real=False)
    assert filled.compute() == pytest.approx({"a": 0, "b": 0}, abs=1e-6)


def test_it_agrees_with_torchmetrics(filled):
    class Features(nn.Module):
        num_features = DIM
        projection = Projection()

        def forward(self, pictures):
            return self.projection(pictures)["a"]

    oracle = FrechetInceptionDistance(feature=Features()).set_dtype(torch.float64)
    oracle.update(images(40, 0), real=True)
    oracle.update(images(30, 1, 128), real=False)
    assert filled.compute()["a"] == pytest.approx(float(oracle.compute()), rel=1e-4)


def test_one_image_is_too_few():
    metric = FrechetDistance(Projection())
    metric.update(images(1, 0), real=False)
    metric.update(images(5, 0), real=True)
    with pytest.raises(ValueError, match="1 generated"):
        metric.compute()
