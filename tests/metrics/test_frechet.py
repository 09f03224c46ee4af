import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from gensynth.errors import UsageError
from gensynth.metrics import FrechetDistance, Statistics, frechet_distance

DIM = 6


def features(count: int, seed: int, dim: int = DIM, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, dim, generator=generator) + seed


def gaussian(seed: int, dim: int = DIM, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    found = Statistics.of(features(count, seed, dim).double())
    return found.mean, found.covariance


def exact_distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """From features [N, D]: tr (C1 C2)^(1/2) is the sum of the singular values of X1 X2^T for
    centred rows X, without ever forming a covariance."""
    means = [rows.double().mean(0) for rows in (one, other)]
    centred = [
        (rows.double() - mean) / (len(rows) - 1) ** 0.5
        for rows, mean in zip((one, other), means, strict=True)
    ]
    nuclear = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    total = sum(rows.square().sum() for rows in centred)
    return float((means[0] - means[1]).square().sum() + total - 2 * nuclear)


def test_diagonal_gaussians_have_a_closed_form():
    mean1, mean2 = torch.tensor([1.0, 2, 3]).double(), torch.tensor([0.0, 4, 3]).double()
    std1, std2 = torch.tensor([1.0, 2, 0]).double(), torch.tensor([3.0, 2, 5]).double()
    found = frechet_distance(mean1, torch.diag(std1**2), mean2, torch.diag(std2**2))
    assert found == pytest.approx(5 + 4 + 0 + 25, rel=1e-9)


@pytest.mark.parametrize("count", [4, 64, 65, 80, 1000])
def test_the_distance_of_equals_is_zero(count):
    one = gaussian(0, 64, count)
    assert frechet_distance(*one, *one) < 1e-9 * float(one[1].trace())


def test_pictures_that_are_all_the_same():
    """Two points are as far apart as their means, and a point from a Gaussian by its trace."""
    rows = [features(1, seed).double().expand(5000, DIM) for seed in range(2)]
    one, other = (Statistics.of(part) for part in rows)
    assert not one.covariance.any() and not other.covariance.any()
    apart = float((rows[0][0] - rows[1][0]).square().sum())
    found = frechet_distance(one.mean, one.covariance, other.mean, other.covariance)
    assert found == pytest.approx(apart, rel=1e-12)
    mean, covariance = gaussian(1)
    expected = float((one.mean - mean).square().sum() + covariance.trace())
    assert frechet_distance(one.mean, one.covariance, mean, covariance) == pytest.approx(expected)


def test_features_that_vary_in_different_directions():
    """The product of the covariances is rounding, and the distance the sum of their traces."""
    turn = torch.linalg.qr(gaussian(2)[1])[0]
    spreads = torch.tensor([3.0, 0, 0, 0, 0, 1]), torch.tensor([0, 2.0, 2, 0, 0, 0])
    one, other = (turn @ torch.diag(spread).double() @ turn.T for spread in spreads)
    mean = torch.zeros(DIM)
    assert frechet_distance(mean, one, mean, other) == pytest.approx(8, abs=1e-6)


def test_symmetry_and_scale():
    one, other = gaussian(0), gaussian(1)
    forth, back = frechet_distance(*one, *other), frechet_distance(*other, *one)
    assert forth == pytest.approx(back, rel=1e-9)
    assert forth > 0.1
    scaled = frechet_distance(one[0] * 3, one[1] * 9, other[0] * 3, other[1] * 9)
    assert scaled == pytest.approx(9 * forth, rel=1e-9)


@pytest.mark.parametrize(
    "counts", [(2, 2), (5, 50), (50, 5), (64, 64), (65, 60), (50, 500), (500, 50)]
)
def test_with_fewer_images_than_features(counts):
    """scipy's `sqrtm` and the eigenvalues of the unsymmetric product are wrong here."""
    one, other = features(counts[0], 0, 64), features(counts[1], 1, 64, scale=0.7)
    moments = [Statistics.of(rows) for rows in (one, other)]
    found = frechet_distance(*(part for m in moments for part in (m.mean, m.covariance)))
    assert found == pytest.approx(exact_distance(one, other), rel=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_any_float_type(kind):
    one, other = gaussian(0), gaussian(1)
    rounded = [np.asarray(part, kind) for part in (*one, *other)]
    exact = frechet_distance(*(torch.from_numpy(part).double() for part in rounded))
    assert frechet_distance(*rounded) == pytest.approx(exact, rel=1e-12)
    assert frechet_distance(*rounded) == pytest.approx(
        frechet_distance(*one, *other), rel=100 * float(np.finfo(kind).eps)
    )


def test_a_root_at_hand():
    one, other = gaussian(0), gaussian(1)
    values, vectors = torch.linalg.eigh(one[1])
    root = (vectors * values.sqrt()).numpy()
    found = frechet_distance(*one, *other, root1=root)
    assert found == pytest.approx(frechet_distance(*one, *other), rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*gaussian(0), *gaussian(1, 4)), r"mu1 \(6,\) and mu2 \(4,\)"),
        ((*gaussian(0), gaussian(1)[0], torch.eye(4)), r"sigma2 \[D, D\], got \(6,\) and \(4, 4\)"),
        ((gaussian(0)[1], gaussian(0)[1], *gaussian(1)), r"mu1 must be \[D\]"),
        ((gaussian(0)[0] * torch.nan, gaussian(0)[1], *gaussian(1)), "mu1 holds NaN"),
        ((*gaussian(0), gaussian(1)[0], gaussian(1)[1] / 0), "sigma2 holds NaN or infinite"),
        ((*gaussian(0), gaussian(1)[0], 2 - torch.eye(DIM)), "eigenvalues below 0"),
        ((gaussian(1)[0], 2 - torch.eye(DIM), *gaussian(0)), "eigenvalues below 0"),
    ],
)
def test_what_has_no_distance(arguments, message):
    with pytest.raises(UsageError, match=message):
        frechet_distance(*arguments)


def test_a_root_of_something_else_is_refused():
    with pytest.raises(UsageError, match="root1 is not a root of sigma1"):
        frechet_distance(*gaussian(0), *gaussian(1), root1=torch.eye(DIM))


def fed(real: torch.Tensor, generated: torch.Tensor, **options) -> FrechetDistance:
    metric = FrechetDistance(real.shape[1], **options)
    metric.update(real, real=True)
    metric.update(generated)
    return metric


def test_the_metric_is_the_function():
    metric = fed(features(40, 0), features(30, 1))
    value = metric.compute()
    assert value.dtype == torch.float64 and value.shape == ()
    expected = frechet_distance(*gaussian(0), *gaussian(1, count=30))
    assert float(value) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(
        metric.statistics(real=False).covariance, np.cov(features(30, 1).double().T), rtol=1e-9
    )


@pytest.mark.parametrize("size", [1, 7, 30])
def test_the_split_into_batches_does_not_matter(size):
    whole, split = fed(features(40, 0), features(30, 1)), FrechetDistance(DIM)
    for real, rows in ((True, features(40, 0)), (False, features(30, 1))):
        for batch in rows.split(size):
            split.update(batch, real=real)
    assert float(split.compute()) == pytest.approx(float(whole.compute()), rel=1e-12)
    assert split.estimate().standard_error == pytest.approx(
        whole.estimate().standard_error, rel=1e-9
    )


def test_the_reference_in_place_of_real_images():
    whole = fed(features(40, 0), features(30, 1))
    metric = FrechetDistance(DIM, reference=whole.statistics(real=True))
    assert not any(name.startswith("real") for name in metric.metric_state)
    metric.update(features(30, 1))
    assert metric.compute() == whole.compute()
    assert metric.estimate() == whole.estimate()
    with pytest.raises(UsageError, match="given by the reference"):
        metric.update(features(5, 0), real=True)
    with pytest.raises(UsageError, match="has 6 features, not 7"):
        FrechetDistance(7, reference=metric.reference)


def test_the_reference_survives_a_change_of_samples():
    metric = fed(features(40, 0), features(30, 1))
    before = metric.compute()
    metric.reset_generated()
    with pytest.raises(UsageError, match="two images a side, got 0 generated"):
        metric.compute()
    metric.update(features(30, 1))
    assert metric.compute() == before
    metric.reset_generated()
    metric.update(features(40, 0))
    assert float(metric.compute()) < 1e-9


def test_it_agrees_with_torchmetrics():
    """Their features are ours, so only the sums and the distance are compared."""
    real, generated = features(400, 0), features(300, 1)
    identity = nn.Identity()
    identity.num_features = DIM
    oracle = FrechetInceptionDistance(feature=identity)
    oracle.update(real, real=True)
    oracle.update(generated, real=False)
    assert oracle.compute().dtype == torch.float32
    found = fed(real, generated).compute()
    assert float(found) == pytest.approx(float(oracle.compute()), rel=1e-6)


class Projection(nn.Module):
    """A small feature space: fixed random mixtures of the pixels of 4 x 4 pictures."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mixture", torch.randn(48, DIM, generator=generator) / 100)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().flatten(1) @ self.mixture


def test_with_an_extractor_it_takes_images():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 4, 4), generator=generator, dtype=torch.uint8)
    metric = FrechetDistance(DIM, extractor=Projection())
    metric.update(images, real=True)
    metric.update(images // 2)
    assert metric.compute() == fed(Projection()(images), Projection()(images // 2)).compute() > 0


@pytest.mark.parametrize(
    ("rows", "index", "message"),
    [
        (torch.zeros(4, DIM + 1), None, r"\[B, 6\].*got \(4, 7\)"),
        (torch.zeros(4, DIM), range(3), r"\(4, 6\) and \(3,\)"),
        (torch.zeros(DIM), None, r"\[N, D\], got \(6,\)"),
        (torch.full((4, DIM), torch.inf), None, "NaN or infinite"),
    ],
)
def test_features_that_do_not_fit(rows, index, message):
    with pytest.raises(UsageError, match=message):
        FrechetDistance(DIM).update(rows, index=index)


def test_one_image_is_too_few():
    metric = FrechetDistance(DIM)
    metric.update(features(1, 0))
    metric.update(features(5, 0), real=True)
    for number in (metric.compute, metric.estimate):
        with pytest.raises(UsageError, match="got 1 generated"):
            number()
