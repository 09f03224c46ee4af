import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from gensynth.errors import InputError, OutputError, RefusedError
from gensynth.evaluation.references.files import Stored, holds_statistics, read_stored, write_stored
from gensynth.metrics.moments import Statistics

POOL, SPATIAL, DINO = 2048, 2023, 1024


def moments(dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A mean [dim] and a covariance [dim, dim] of full rank."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=dim)
    return generator.normal(size=dim), np.outer(direction, direction) + np.eye(dim)


@pytest.fixture(scope="module")
def pool():
    return moments(POOL)


@pytest.fixture(scope="module")
def dino():
    return moments(DINO, 1)


@pytest.fixture(scope="module")
def ours() -> Stored:
    """Statistics of 20 images in two stages of lite0, and features of five of them."""
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    statistics = {"s40": Statistics.of(features[:, :2]), "s112": Statistics.of(features)}
    statistics["s112"].with_root()
    rows = features[:5].numpy()
    return Stored(statistics, {"s112": rows}, {"extractor": "lite0-64", "count": 20})


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_an_adm_batch(tmp_path, pool):
    mu_s, sigma_s = moments(SPATIAL, 2)
    path = save(
        tmp_path / "a.npz",
        mu=pool[0].astype(np.float32),
        sigma=pool[1],
        mu_s=mu_s,
        sigma_s=sigma_s.astype(np.float32),
        arr_0=np.zeros((4, 8, 8, 3), np.uint8),
        arr_1=np.zeros(4, np.int64),
        mu_of_others=np.zeros(3),
        model=np.array("DiT"),
    )
    stored = read_stored(path)
    assert set(stored.statistics) == {"pool", "spatial"} and not stored.features
    for name, (mu, sigma) in {"pool": pool, "spatial": (mu_s, sigma_s)}.items():
        found = stored.statistics[name]
        assert found.mean.dtype == found.covariance.dtype == torch.float64
        assert found.count is None and found.root is None
        np.testing.assert_allclose(found.mean, mu, rtol=1e-6)
        np.testing.assert_allclose(found.covariance, sigma, rtol=1e-6, atol=1e-6)
    assert holds_statistics(path)


def test_statistics_of_edm_pytorch_fid_and_clean_fid(tmp_path, pool, dino):
    path = save(tmp_path / "a.npz", mu=pool[0], sigma=np.asfortranarray(pool[1]))
    assert np.array_equal(read_stored(path).statistics["pool"].covariance, pool[1])
    stored = read_stored(save(tmp_path / "a.npz", mu=dino[0], sigma=dino[1]))
    assert set(stored.statistics) == {"cls"}


@pytest.mark.parametrize("name", ["feats", "reps"])
def test_features_of_clean_fid_and_dgm_eval(tmp_path, name):
    rows = np.random.default_rng(0).normal(size=(5, DINO)).astype(np.float32)
    path = save(tmp_path / "a.npz", **{name: rows, "model": np.array("dinov2")})
    stored = read_stored(path)
    assert np.array_equal(stored.features["cls"], rows)
    assert stored.statistics["cls"].count == 5
    np.testing.assert_allclose(stored.statistics["cls"].mean, rows.mean(0), atol=1e-6)
    assert holds_statistics(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_edm2_pickle(tmp_path, dino, protocol):
    path = tmp_path / "a.pkl"
    entry = {"mu": dino[0], "sigma": np.asfortranarray(dino[1]).astype(">f8")}
    content = pickle.dumps({"fd_dinov2": entry, "num_images": np.int64(1281167)}, protocol)
    # The modules' name before numpy 2; from protocol 4 on it has its length before it.
    for name in (b"numpy._core", b"numpy.core")[: 2 if protocol < 4 else 1]:
        path.write_bytes(content.replace(b"numpy._core", name))
        stored = read_stored(path)
        assert set(stored.statistics) == {"cls"} and holds_statistics(path)
        assert stored.meta == {"count": stored.statistics["cls"].count} == {"count": 1281167}
        assert np.array_equal(stored.statistics["cls"].covariance, dino[1])


def test_statistics_of_halton_maskgit(tmp_path, pool):
    mu, sigma = (torch.from_numpy(array).bfloat16() for array in pool)
    torch.save({"mu": mu, "cov": sigma}, tmp_path / "a.pt")
    stored = read_stored(tmp_path / "a.pt")
    assert torch.equal(stored.statistics["pool"].mean, mu.double())
    assert torch.equal(stored.statistics["pool"].covariance, sigma.double())


def test_ours_comes_back_as_it_was(tmp_path, ours):
    path = tmp_path / "new" / "a.npz"
    write_stored(path, ours)
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]
    assert holds_statistics(path)
    back = read_stored(path)
    assert back.meta == ours.meta
    assert np.array_equal(back.features["s112"], ours.features["s112"])
    for name, expected in ours.statistics.items():
        found = back.statistics[name]
        assert torch.equal(found.mean, expected.mean) and found.count == 20
        assert torch.equal(found.covariance, expected.covariance)
    assert torch.equal(back.statistics["s112"].root, ours.statistics["s112"].root)
    assert back.statistics["s40"].root is None


def test_ours_of_inception_is_read_by_the_programs_of_others(tmp_path):
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    statistics = {"pool": Statistics.of(features), "spatial": Statistics.of(features[:, :3])}
    statistics["pool"].with_root()
    write_stored(tmp_path / "a.npz", Stored(statistics, {"pool": features.numpy()}, {"a": 1}))
    with np.load(tmp_path / "a.npz") as arrays:
        names = {"mu", "sigma", "sqrt_sigma", "mu_s", "sigma_s", "feat_ref", "n", "gs_meta"}
        assert set(arrays) == names
        np.testing.assert_allclose(arrays["sigma"], np.cov(features.numpy().T), atol=1e-12)
        root = arrays["sqrt_sigma"]
        np.testing.assert_allclose(root @ root.T, arrays["sigma"], atol=1e-12)
        assert arrays["mu"].dtype == arrays["sigma"].dtype == np.float64
        assert int(arrays["n"]) == 9 and json.loads(arrays["gs_meta"].tobytes()) == {"a": 1}
    back = read_stored(tmp_path / "a.npz")
    assert set(back.statistics) == {"pool", "spatial"} and set(back.features) == {"pool"}


def test_a_file_that_cannot_be_written(tmp_path, ours):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*a\.npz"):
        write_stored(tmp_path / "file" / "a.npz", ours)


NAN = np.full(DINO, np.nan)
ASYMMETRIC = np.eye(DINO) + np.eye(DINO, k=1)
NEGATIVE = np.eye(DINO) + 2 * (np.eye(DINO, k=1) + np.eye(DINO, k=-1))
ZEROS, EYE = np.zeros(DINO), np.eye(DINO)
ROWS = np.zeros((4, DINO), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(10), "sigma": np.eye(10)}, r"mu has 10 values.*2048 \(pool\) or 1024"),
        ({"mu": ZEROS, "sigma": EYE, "mu_s": ZEROS, "sigma_s": EYE}, r"mu_s has 1024.*2023"),
        ({"mu": np.float64(3), "sigma": EYE}, "mu has 1 values"),
        ({"mu": ZEROS}, "has mu but no sigma"),
        ({"mu": ZEROS, "sigma": np.eye(10)}, r"mu must be \[D\] and sigma \[D, D\]"),
        ({"mu": ZEROS, "sigma": ZEROS}, r"mu must be \[D\] and sigma \[D, D\]"),
        ({"mu": NAN, "sigma": EYE}, "mu holds NaN"),
        ({"mu": ZEROS, "sigma": EYE + np.inf}, "sigma holds NaN or infinite"),
        ({"mu": ZEROS, "sigma": ASYMMETRIC}, "sigma is no covariance matrix: it is not symm"),
        ({"mu": ZEROS, "sigma": -EYE}, "sigma is no covariance matrix"),
        ({"mu": ZEROS, "sigma": NEGATIVE}, "sigma is no covariance matrix: an eigenvalue"),
        ({"mu": ZEROS.astype("U3"), "sigma": EYE}, "mu holds values of type <U3"),
        ({"mu": ZEROS, "sigma": EYE.astype(complex)}, "sigma holds values of type complex128"),
        ({"mu": ZEROS.astype(object), "sigma": EYE}, "mu cannot be read"),
        ({"mu": ZEROS, "sigma": EYE, "sqrt_sigma": 2 * EYE}, "sqrt_sigma is not a root of sigma"),
        ({"feats": ROWS[0]}, r"feats must be features .* \[1024\]"),
        ({"feats": ROWS[:1]}, "feats must be features of two images"),
        ({"feats": ROWS + np.nan}, "feats must be .* finite"),
        ({"reps": ROWS.astype(np.int64)}, "reps must be .* int64"),
        ({"gs_meta": np.frombuffer(b"{", np.uint8)}, "gs_meta is damaged"),
        ({"gs_meta": np.frombuffer(b"[]", np.uint8)}, "gs_meta is damaged"),
        ({"gs_meta": np.frombuffer(b"{}", np.uint8), "n": np.zeros(2)}, "n must be a number"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8)}, "neither mu and sigma nor features"),
    ],
)
def test_numbers_that_are_no_statistics(tmp_path, arrays, message):
    with pytest.raises(InputError, match=rf"a\.npz.*{message}"):
        read_stored(save(tmp_path / "a.npz", **arrays))


def test_a_singular_covariance_is_one(tmp_path):
    rows = np.random.default_rng(0).normal(size=(9, DINO))
    sigma = np.cov(rows.T).astype(np.float32)
    stored = read_stored(save(tmp_path / "a.npz", mu=rows.mean(0), sigma=sigma))
    assert np.array_equal(stored.statistics["cls"].covariance, sigma)
    constant = read_stored(save(tmp_path / "a.npz", mu=ZEROS, sigma=0 * EYE))
    assert not constant.statistics["cls"].covariance.any()


class Reduced:
    """Pickled as a call of a function with arguments, and the state its result is set to."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


# numpy takes a dtype of objects whose flags say that it holds none.
FORGED = Reduced(np.dtype, ("O", False, True), (3, "|", None, None, None, -1, -1, 0))
FORGED_SCALAR = Reduced(np.float64(1).__reduce__()[0], (FORGED, b"A" * 8))


def array_of(shape, content, dtype=ZEROS.dtype):
    return Reduced(*ZEROS.__reduce__()[:2], (1, shape, dtype, False, content))


def test_pickles_that_would_run_code_are_refused_and_not_run(tmp_path):
    touched = tmp_path / "touched"
    command = Reduced(os.system, (f"touch {touched}",))
    path = tmp_path / "a.pkl"
    for content in (command, {"fid": command}, {"fid": {"mu": np.array([command], object)}}):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(RefusedError, match=r"a\.pkl is a pickle that needs posix\.system"):
            read_stored(path)
    torch.save({"mu": command}, tmp_path / "a.pt")
    with pytest.raises(RefusedError, match=r"a\.pt is a pickle that needs posix\.system"):
        read_stored(tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", mu=np.array([command], object), sigma=EYE)
    with pytest.raises(InputError, match="mu cannot be read"):
        read_stored(tmp_path / "a.npz")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({1, 2}, RefusedError, "needs .*set, not only numbers and arrays"),
        (np.random.default_rng(0), RefusedError, "not only numbers and arrays"),
        (pytest.raises, RefusedError, "not only numbers and arrays"),
        (torch.ones(2), RefusedError, "not only numbers and arrays"),
        (np.zeros(2).view(np.matrix), RefusedError, "matrix, not only numbers and arrays"),
        ({"num_images": FORGED_SCALAR}, RefusedError, r"objects in num_images, [^.]* run code\.$"),
        ({"mu": array_of((1,), b"A" * 8, FORGED)}, RefusedError, r"objects in mu, [^.]*\.$"),
        ([1, 2], InputError, "a pickle of list"),
        ({"fid": 3}, InputError, "neither mu and sigma"),
        ({"fid": {"mu": 3.0, "sigma": EYE}}, InputError, "mu is a float"),
        ({"num_images": "many"}, InputError, "num_images must be a number"),
        ({"mu": ZEROS.astype(object)}, InputError, "mu holds values of type object"),
        ({"mu": array_of((-1, -1), bytes(8))}, InputError, "shape of mu does not fit its 8 bytes"),
        ({"mu": array_of((2**40, 2**40), bytes(8))}, InputError, "shape of mu does not fit"),
        ({"mu": array_of((0, 2**70), "")}, InputError, "is damaged"),
    ],
)
def test_pickles_of_other_things(tmp_path, content, error, message):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(error, match=f"a.pkl.*{message}"):
        read_stored(tmp_path / "a.pkl")


@pytest.mark.parametrize("suffix", [".npz", ".pkl", ".pt"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_files(tmp_path, dino, suffix, damage):
    path = tmp_path / f"a{suffix}"
    entry = {"mu": dino[0], "sigma": dino[1]}
    if suffix == ".npz":
        np.savez(path, **entry)
    elif suffix == ".pkl":
        path.write_bytes(pickle.dumps({"fid": entry}))
    else:
        torch.save({"mu": torch.zeros(9)}, path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(InputError, match=rf"a\{suffix}"):
        read_stored(path)


def test_a_damaged_member(tmp_path, dino):
    path = save(tmp_path / "a.npz", mu=dino[0], sigma=dino[1])
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("sigma.npy").header_offset
    data = bytearray(path.read_bytes())
    data[start + 1000 : start + 1100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(InputError, match="sigma cannot be read: Bad CRC"):
        read_stored(path)


def test_files_that_are_no_statistics(tmp_path):
    images = save(tmp_path / "a.npz", arr_0=np.zeros((2, 4, 4, 3), np.uint8))
    (tmp_path / "a.txt").write_text("hello")
    for path in (images, tmp_path / "a.txt", tmp_path, tmp_path / "gone.npz"):
        assert not holds_statistics(path)
    for name in ("gone.npz", "gone.pkl"):
        with pytest.raises(InputError, match=f"no reference file .*{name}"):
            read_stored(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.txt is no file of statistics"):
        read_stored(tmp_path / "a.txt")
