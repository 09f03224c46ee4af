import numpy as np
import pytest
import torch

from gensynth.errors import UsageError
from gensynth.metrics import GroupedSums, Statistics, root_of
from gensynth.metrics.moments import group_of

DIM, COUNT = 24, 130


def rows(count: int = COUNT, mean: float = 30.0, seed: int = 0) -> torch.Tensor:
    """Features far from 0 beside their spread, the hard case for sums of squares."""
    generator = torch.Generator().manual_seed(seed)
    mixture = torch.randn(DIM, DIM, generator=generator)
    return torch.randn(count, DIM, generator=generator) @ mixture + mean


def check(found: Statistics, expected: torch.Tensor) -> None:
    """Against numpy, which subtracts the mean first."""
    expected = expected.double().numpy()
    covariance = np.cov(expected.T)
    assert found.mean.dtype == found.covariance.dtype == torch.float64
    assert found.count == len(expected)
    np.testing.assert_allclose(found.mean, expected.mean(0), rtol=1e-14)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(found.covariance / scale, covariance / scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, torch.bfloat16])
def test_moments_are_those_of_numpy(kind):
    given = rows()
    array = given.to(kind) if kind == torch.bfloat16 else given.numpy().astype(kind)
    check(Statistics.of(array), torch.as_tensor(array))


@pytest.mark.parametrize("size", [1, 7, 64, COUNT])
def test_the_split_into_batches_and_their_order_do_not_matter(size):
    features, sums = rows(), GroupedSums.zeros(DIM, groups=4)
    for index in torch.arange(COUNT).split(size)[::-1]:
        sums.add(features[index], index)
    check(sums.statistics(), features)
    assert sorted(sums.count.tolist()) == [32, 32, 33, 33]


@pytest.mark.parametrize("group", range(3))
def test_leaving_out_a_group(group):
    features, sums = rows(), GroupedSums.zeros(DIM, groups=3)
    sums.add(features, torch.arange(COUNT))
    check(sums.statistics(without=group), features[group_of(torch.arange(COUNT), 3) != group])
    check(sums.statistics(), features)


def test_groups_are_of_one_size_and_mix_classes_drawn_in_turn():
    groups = 10
    index = torch.arange(10_000)
    group = group_of(index, groups)
    assert group.reshape(-1, groups).sort().values.unique(dim=0).tolist() == [list(range(groups))]
    assert torch.equal(group_of(index[7:9], groups), group[7:9])
    for classes in (2, 10, 100, 1000):
        shares = torch.zeros(groups, classes).index_put_(
            (group, index % classes), torch.ones(len(index)), accumulate=True
        )
        assert (shares == 10_000 / groups / classes).all()
    assert group_of(index, 1).unique().tolist() == [0]


@pytest.mark.parametrize("world", [2, 4])
def test_sums_of_several_processes_add_up(world):
    features, parts = rows(), [GroupedSums.zeros(DIM, groups=5) for _ in range(world)]
    for rank, part in enumerate(parts):
        index = torch.arange(rank, COUNT, world)
        part.add(features[index], index)
    total = GroupedSums(
        *(sum(getattr(part, name) for part in parts) for name in ("count", "total", "outer"))
    )
    check(total.statistics(), features)
    check(total.statistics(without=1), features[group_of(torch.arange(COUNT), 5) != 1])


@pytest.mark.parametrize("count", [2, DIM, COUNT])
def test_root(count):
    covariance = Statistics.of(rows(count)).covariance
    root = root_of(covariance)
    assert root.shape == covariance.shape
    torch.testing.assert_close(root @ root.T, covariance, rtol=1e-10, atol=1e-10)
    # With as many images as features rounding decides whether there is a Cholesky factor.
    assert count == DIM or int(root.any(0).sum()) == min(count - 1, DIM)


def test_root_of_nothing():
    assert not root_of(torch.zeros(3, 3)).any()


def test_a_feature_that_never_varies():
    features = rows()
    features[:, 3] = 1 / 3
    found = Statistics.of(features).with_root()
    check(found, features)
    assert not found.covariance[3].any() and not found.covariance[:, 3].any()
    assert (found.covariance.diagonal() > 0).sum() == DIM - 1
    torch.testing.assert_close(found.root @ found.root.T, found.covariance)


def test_roots_of_files_in_float32_are_taken_and_those_of_another_matrix_not():
    found = Statistics.of(rows()).with_root()
    values, vectors = torch.linalg.eigh(found.covariance)
    symmetric = vectors @ values.diag().sqrt() @ vectors.T
    for root in (found.root, symmetric):
        Statistics(found.mean, found.covariance.float(), root=root.float())
    other = Statistics.of(rows(seed=1)).with_root().root
    other *= (found.covariance.trace() / other.square().sum()).sqrt()
    for wrong in (other, found.root.T, 1.00002 * found.root):
        with pytest.raises(UsageError, match="root is not a root of covariance"):
            Statistics(found.mean, found.covariance, root=wrong)


def test_the_root_is_computed_once():
    found = Statistics.of(rows())
    assert found.root is None
    root = found.with_root().root
    assert found.with_root().root is root
    assert found.to(torch.device("cpu")) is found


def test_read_only_arrays_of_a_file(tmp_path, recwarn):
    path = tmp_path / "features.npy"
    np.save(path, rows().numpy())
    check(Statistics.of(np.load(path, mmap_mode="r")), rows())
    assert not recwarn


MEAN, COVARIANCE = torch.zeros(3), torch.eye(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MEAN, torch.eye(4)), r"covariance \[D, D\], got \(3,\) and \(4, 4\)"),
        ((MEAN, torch.ones(3)), r"\(3,\) and \(3,\)"),
        ((torch.eye(3), COVARIANCE), r"mean must be \[D\].*\(3, 3\) and \(3, 3\)"),
        ((torch.zeros(0), torch.zeros(0, 0)), r"\(0,\)"),
        ((MEAN, torch.ones(3, 3).triu()), "covariance is no covariance matrix"),
        ((MEAN, -COVARIANCE), "covariance is no covariance matrix"),
        ((MEAN / 0, COVARIANCE), "mean holds NaN"),
        ((MEAN, COVARIANCE / 0), "covariance holds NaN or infinite"),
        ((MEAN, COVARIANCE, 5, 2 * COVARIANCE), "root is not a root of covariance"),
        ((MEAN, COVARIANCE, 5, torch.eye(2)), r"root \[D, D\], got \(3,\) and \(2, 2\)"),
    ],
)
def test_what_is_no_statistics(arguments, message):
    with pytest.raises(UsageError, match=message):
        Statistics(*arguments)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(1, 3), "two images, got 1"),
        (torch.zeros(0, 3), "two images, got 0"),
        (torch.zeros(3), r"\[N, D\], got \(3,\)"),
        (np.full((4, 3), np.nan), "features holds NaN"),
    ],
)
def test_what_has_no_moments(features, message):
    with pytest.raises(UsageError, match=message):
        Statistics.of(features)
