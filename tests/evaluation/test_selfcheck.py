"""The table of published numbers, and the machinery that checks them, on numbers of our own."""

import dataclasses

import pytest
import torch
from PIL import Image

from gensynth.data.files.image_set import open_images
from gensynth.errors import InputError, PartialError, RefusedError
from gensynth.evaluation.checking import selfcheck as module
from gensynth.evaluation.checking.selfcheck import (
    GOLDENS,
    TOLERANCES,
    Download,
    Golden,
    Row,
    check,
    complete,
    conclude,
    place,
    selfcheck,
)
from gensynth.evaluation.measuring.features import Effort, extract
from gensynth.evaluation.measuring.measures import inception_scores
from gensynth.evaluation.references.reference import read_reference, write_reference
from gensynth.metrics import Statistics, frechet_distance, inception_score
from gensynth.metrics.extractors import open_extractor

COUNT = 12
HERE = Download("samples", "https://example.org/samples")
THERE = Download("reference.npz", "https://example.org/reference.npz")


@pytest.fixture(scope="module")
def extractor():
    return open_extractor("lite0-64")


@pytest.fixture(scope="module")
def network():
    return open_extractor("random-inception-0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, extractor):
    """Twelve pictures of noise, and the statistics of twelve others."""
    root = tmp_path_factory.mktemp("goldens")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2 * COUNT, 3, 16, 16), dtype=torch.uint8, generator=generator)
    (root / HERE.name).mkdir()
    for number, image in enumerate(images[:COUNT]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / HERE.name / f"{number}.png")
    features = extractor(images[COUNT:])
    statistics = {name: Statistics.of(rows) for name, rows in features.items()}
    kept = {"h1280": features["h1280"].numpy()}
    write_reference(root / THERE.name, statistics, kept, {"count": COUNT})
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path / "cache"))


def by_hand(folder, extractor):
    """The distance of the same pictures, without the engine."""
    images = open_images(str(folder / HERE.name))
    rows = extractor(torch.stack([images.read(k) for k in range(COUNT)]))["s40"]
    ours = Statistics.of(rows)
    real = read_reference(folder / THERE.name, extractor).statistics["s40"]
    return frechet_distance(real.mean, real.covariance, ours.mean, ours.covariance)


def test_a_number_that_is_as_published_and_one_that_is_not(folder, extractor, monkeypatch, capsys):
    monkeypatch.setitem(TOLERANCES, "fd_s40", 0.001)
    expected = by_hand(folder, extractor)
    golden = Golden("noise", HERE, {"fd_s40": expected}, "this test", THERE)
    (row,) = check(golden, folder, extractor)
    assert row.found == pytest.approx(expected, rel=1e-6) and row.passed
    conclude([row])
    assert "ok" in capsys.readouterr().out
    wrong = dataclasses.replace(golden, expected={"fd_s40": expected + 0.002})
    (missed,) = check(wrong, folder, extractor)
    assert not missed.passed
    with pytest.raises(PartialError, match="1 of 2 published numbers were missed: fd_s40 of noise"):
        conclude([row, missed])
    assert "MISSED" in capsys.readouterr().out


def test_scores_that_need_no_reference(folder, network):
    images = open_images(str(folder / HERE.name))
    logits = network(torch.stack([images.read(k) for k in range(COUNT)]))["logits"]
    score = inception_score(logits, 10)[0]
    (row,) = check(Golden("noise", HERE, {"is": score}, "this test"), folder, network)
    assert row.found == pytest.approx(score, rel=1e-6) and row.passed


def test_adm_scores_are_those_in_file_order(folder, network):
    # What `computed` reads of a score is there under the names it reads.
    images = open_images(str(folder / HERE.name))
    files = extract(images, range(COUNT), network, Effort())
    (score,) = inception_scores(network, files, None)
    assert score.key == module.SCORE
    assert score.details["in_file_order"] == pytest.approx(
        inception_score(files.all("logits"), 1, seed=None)[0]
    )


def test_without_files_it_says_which_and_where_from(tmp_path):
    with pytest.raises(InputError) as told:
        complete(tmp_path, GOLDENS)
    for golden in GOLDENS:
        for file in golden.files:
            assert file.name in str(told.value) and file.url in str(told.value)


def test_only_what_is_complete_is_checked(folder, tmp_path, capsys):
    here = Golden("here", HERE, {}, "this test", THERE)
    lacking = Golden("lacking", HERE, {}, "this test", Download("other.npz", "https://example.org"))
    assert complete(folder, [here, lacking]) == [here]
    conclude([], [lacking])
    assert "not checked: lacking, which needs samples and other.npz" in capsys.readouterr().out
    # References may also lie where published ones are kept.
    kept = tmp_path / "cache" / "references"
    kept.mkdir(parents=True)
    (kept / "other.npz").write_bytes(b"")
    assert complete(folder, [here, lacking]) == [here, lacking]
    assert place(folder, THERE) == folder / THERE.name


def test_weights_that_are_not_the_published_ones_are_refused(folder, network, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(network.network.state_dict(), weights)
    with pytest.raises(RefusedError, match="is not the published weights file"):
        selfcheck(folder, weights, goldens=[Golden("noise", HERE, {}, "this test")])


def test_which_files_it_wants_is_told_before_the_weights_are_asked_for(tmp_path):
    with pytest.raises(InputError, match=r"no published samples are in .*admnet_imagenet64.npz"):
        selfcheck(tmp_path, tmp_path / "nowhere.pth")


def test_samples_with_loss_are_refused(tmp_path, extractor):
    for number in range(2):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"{number}.jpg")
    golden = Golden("jpeg", Download(".", ""), {}, "this test")
    with pytest.raises(InputError, match="with loss"):
        check(golden, tmp_path, extractor)


def test_the_published_numbers_have_tolerances_and_sources():
    assert {golden.name for golden in GOLDENS} >= {"imagenet256", "imagenet128", "CIFAR-10 train"}
    for golden in GOLDENS:
        assert golden.source and set(golden.expected) <= set(TOLERANCES)
        assert all(file.url.startswith("https://") for file in golden.files)
    first = GOLDENS[0]
    # The port of ADM's evaluator that section 4.6 of the specification quotes.
    port = {"fid": 3.94103, "sfid": 6.14049, "is_in_file_order": 215.976, "precision": 0.82548}
    rows = [Row("", key, first.expected[key], TOLERANCES[key], port[key]) for key in port]
    assert all(row.passed for row in rows)
    assert not Row("", "fid", first.expected["fid"], TOLERANCES["fid"], 3.95).passed


def test_a_number_that_does_not_come_out_is_missed(folder, network, capsys):
    golden = Golden("noise", HERE, {"is": 1.0, "fid": 2.0}, "this test")
    rows = check(golden, folder, network)
    assert [row.key for row in rows if not row.passed] == ["fid"]
    with pytest.raises(PartialError, match="fid of noise"):
        conclude(rows)
