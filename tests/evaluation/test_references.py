import hashlib

import numpy as np
import pytest
import torch

from gensynth.data.files.image_set import open_images
from gensynth.data.images import to_pil
from gensynth.errors import CorruptError, InputError, RefusedError
from gensynth.evaluation.measuring.features import Effort, extract
from gensynth.evaluation.measuring.measure import make_reference, reference_of
from gensynth.evaluation.references.published import PUBLISHED
from gensynth.evaluation.references.reference import (
    Reference,
    is_reference,
    read_reference,
    write_reference,
)
from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.moments import Statistics


@pytest.fixture(scope="module")
def extractor():
    return open_extractor("lite0-64")


@pytest.fixture
def made(tmp_path, extractor):
    """A reference file of noise as `extractor` might have made it, and what is in it."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(9, extractor.dims["s40"], generator=generator)
    statistics = {"s40": Statistics.of(features).with_root()}
    meta = {
        "name": "photos",
        "count": 9,
        "extractor": extractor.name,
        "extractor_fingerprint": extractor.fingerprint,
    }
    write_reference(tmp_path / "a.npz", statistics, {"s40": features[:4].numpy()}, meta)
    return tmp_path / "a.npz", statistics, meta


@pytest.fixture(scope="module")
def adm(tmp_path_factory):
    """A file in the layout of ADM's batches."""
    path = tmp_path_factory.mktemp("adm") / "batch.npz"
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    moments = {"mu": np.zeros(2048, np.float32), "sigma": np.eye(2048)}
    moments |= {"mu_s": np.zeros(2023, np.float32), "sigma_s": np.eye(2023)}
    np.savez(path, arr_0=images, arr_1=np.arange(5), **moments)
    return path


def test_a_reference_that_was_made_here(made, extractor):
    path, statistics, meta = made
    found = read_reference(str(path), extractor)
    assert (found.name, found.meta, found.images) == ("photos", meta, None)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(found.statistics["s40"].root, statistics["s40"].root)
    assert found.features["s40"].shape == (4, 40)
    assert is_reference(str(path))


def test_the_hash_of_the_statistics_is_of_nothing_else(made, tmp_path, extractor):
    path, statistics, meta = made
    found = read_reference(path)
    without_root = {name: Statistics(s.mean, s.covariance) for name, s in statistics.items()}
    write_reference(tmp_path / "b.npz", without_root, {}, meta | {"name": "others"})
    other = read_reference(tmp_path / "b.npz")
    assert other.sha256 != found.sha256
    assert other.statistics_sha256 == found.statistics_sha256
    [(name, moments)] = statistics.items()
    changed = [
        {name: Statistics(moments.mean + 1e-9, moments.covariance)},
        {name: Statistics(moments.mean, moments.covariance * (1 + 1e-9))},
        {"s112": moments},
        {name: moments, "s112": moments},
    ]
    hashes = {Reference("a", each).statistics_sha256 for each in changed}
    assert len(hashes | {found.statistics_sha256}) == 5
    both = {name: moments, "s112": moments}
    backwards = dict(reversed(both.items()))
    assert Reference("a", both).statistics_sha256 == Reference("b", backwards).statistics_sha256


def test_features_without_statistics_have_a_hash_too():
    rows = [np.ones((3, 2)), np.zeros((3, 2))]
    one, two = (Reference("a", {}, {"embedding": each}) for each in rows)
    assert one.statistics_sha256 != two.statistics_sha256


def test_a_cache_that_is_made_again_gives_the_same_hash(tmp_path, monkeypatch, extractor):
    images = open_images("fashion_mnist:test")
    found = []
    for folder in "ab":
        monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path / folder))
        files = extract(images, range(150), extractor, Effort())
        found.append(reference_of(images, files, extractor))
    assert found[0].statistics_sha256 == found[1].statistics_sha256
    fewer = extract(images, range(149), extractor, Effort())
    other = reference_of(images, fewer, extractor)
    assert other.statistics_sha256 != found[0].statistics_sha256


def test_a_reference_of_images_is_known_by_their_pixels(tmp_path, monkeypatch, extractor):
    """Wherever they lie, in whatever order, and however the sums over them were rounded."""
    images = open_images("fashion_mnist:test")
    pixels = torch.stack([images.read(index) for index in range(40)])
    np.savez(tmp_path / "a.npz", pixels.permute(0, 2, 3, 1).numpy())
    (tmp_path / "folder").mkdir()
    for number, image in enumerate(pixels.flip(0)):
        to_pil(image).save(tmp_path / "folder" / f"{number}.png")
    one, other = (
        make_reference(open_images(str(tmp_path / n)), extractor) for n in ("a.npz", "folder")
    )
    assert one.images_sha256 == other.images_sha256 is not None
    threads = torch.get_num_threads()
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        again = make_reference(open_images(str(tmp_path / "a.npz")), extractor)
    finally:
        torch.set_num_threads(threads)
    assert again.images_sha256 == one.images_sha256
    write_reference(tmp_path / "b.npz", again.statistics, again.features, again.meta)
    read = read_reference(tmp_path / "b.npz")
    assert read.images_sha256 == one.images_sha256
    assert read.meta["size"] == [32, 32]
    fewer = make_reference(open_images(str(tmp_path / "a.npz")), extractor, 39)
    cut = make_reference(open_images(str(tmp_path / "a.npz"), 16), extractor)
    assert len({one.images_sha256, fewer.images_sha256, cut.images_sha256}) == 3


def test_files_of_others_are_known_by_their_arrays(adm):
    assert read_reference(str(adm)).images_sha256 is None


def test_no_file_calls_itself_published(made, tmp_path):
    _, statistics, meta = made
    claim = {"published": "imagenet512", "verified": True}
    write_reference(tmp_path / "b.npz", statistics, {}, meta | claim)
    assert read_reference(tmp_path / "b.npz").meta == meta


def test_a_reference_of_another_extractor_is_refused_by_both_names(made, extractor):
    path, *_ = made
    other = open_extractor("lite0-128")
    with pytest.raises(RefusedError) as caught:
        read_reference(path, other)
    for name in ("photos", "lite0-64", "lite0-128", extractor.fingerprint, other.fingerprint):
        assert name in str(caught.value)
    assert read_reference(path).name == "photos"


def test_a_batch_of_adm_has_images_and_labels(adm):
    found = read_reference(adm)
    assert (found.name, set(found.statistics)) == (str(adm), {"pool", "spatial"})
    assert found.images.length == 5 and found.images.read(4).shape == (3, 8, 8)
    assert [found.images.labels(index) for index in range(5)] == list(range(5))
    assert found.meta == {}


def test_widths_tell_which_extractor_a_foreign_file_is_of(adm, extractor):
    with pytest.raises(RefusedError, match=r"pool of 2048 values, .*lite0-64 gives s40 of 40"):
        read_reference(adm, extractor)
    inception = open_extractor("random-inception-0")
    assert read_reference(adm, inception).statistics["pool"].mean.shape == (2048,)


def test_images_in_a_reference_are_checked(adm, tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.zeros(1024), sigma=np.eye(1024), arr_0=np.zeros((4, 8, 8)))
    with pytest.raises(InputError, match="arr_0 must be images as uint8"):
        read_reference(tmp_path / "a.npz")


def test_images_are_no_reference(adm, tmp_path):
    np.savez(tmp_path / "a.npz", np.zeros((4, 8, 8, 3), np.uint8))
    assert not is_reference(str(tmp_path / "a.npz"))
    assert not is_reference("fashion_mnist:test")
    assert not is_reference(str(tmp_path))
    assert is_reference(str(adm)) and is_reference("imagenet256")
    assert is_reference(str(tmp_path / "gone.pkl"))


def test_a_published_one_is_read_from_its_place(adm, tmp_path, monkeypatch):
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"imagenet64 is not here. Place https://\S+ at "):
        read_reference("imagenet64")
    place = tmp_path / "references" / "VIRTUAL_imagenet64_labeled.npz"
    place.parent.mkdir()
    place.write_bytes(adm.read_bytes())
    found = read_reference("imagenet64")
    assert found.name == "imagenet64" and found.images.length == 5
    assert found.meta == {"published": "imagenet64", "verified": False}


def test_another_file_in_the_place_of_a_published_one(adm, tmp_path, monkeypatch):
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    place = tmp_path / "references" / PUBLISHED["imagenet256"].file
    place.parent.mkdir()
    place.write_bytes(adm.read_bytes())
    with pytest.raises(CorruptError, match=r"is not the published imagenet256.*b32732719497"):
        read_reference("imagenet256")
