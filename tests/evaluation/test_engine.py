"""Numbers of samples against a reference do not depend on how the work was done."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gensynth.errors import InputError, UsageError
from gensynth.evaluation.measuring import measure as engine
from gensynth.evaluation.measuring.features import Effort
from gensynth.evaluation.measuring.measure import make_reference, measure
from gensynth.evaluation.references.reference import read_reference, write_reference
from gensynth.metrics import FrechetDistance, density_coverage, kernel_distance, precision_recall
from gensynth.metrics.extractors import open_extractor

EXACT = 1e-6  # relative


def values(measured):
    return {score.key: score.value for score in measured.scores}


def assert_same(found, expected):
    """Distances to 1e-6; a network in other batches rounds otherwise, which KID sees first."""
    assert found == pytest.approx(expected, rel=10 * EXACT)
    frechet = [key for key in expected if key.startswith("fd_")]
    assert frechet
    assert {k: found[k] for k in frechet} == pytest.approx(
        {k: expected[k] for k in frechet}, rel=EXACT
    )


def test_each_number_is_that_of_its_metric(evaluated, fashion_sets, lite0_extractor):
    measured, _ = evaluated
    drawn, real = (lite0_extractor(images.pixels) for images in fashion_sets)
    found = values(measured)
    for stage in lite0_extractor.dims:
        metric = FrechetDistance(lite0_extractor.dims[stage])
        metric.update(drawn[stage])
        metric.update(real[stage], real=True)
        assert found[f"fd_{stage}"] == pytest.approx(float(metric.compute()), rel=1e-5)
    pair = (real["h1280"], drawn["h1280"])
    assert (found["precision"], found["recall"]) == precision_recall(*pair, k=3)
    assert (found["density"], found["coverage"]) == density_coverage(*pair, k=5)
    size = len(drawn["h1280"])
    assert found["kid"] == pytest.approx(kernel_distance(*pair, subset_size=size)[0], rel=1e-5)
    assert measured.headline.key == "fd_s112"


@pytest.mark.parametrize("batch_size", [1, 7, 80])
def test_the_batch_size_does_not_matter(evaluated, fashion_sets, lite0_extractor, batch_size):
    evaluated[0].files.remove()
    again = measure(*fashion_sets, lite0_extractor, effort=Effort(batch_size))
    again.files.remove()  # other tests take features from the cache, and not of these batches
    assert_same(values(again), values(evaluated[0]))


def test_a_part_of_the_samples(fashion_sets, lite0_extractor):
    part = measure(*fashion_sets, lite0_extractor, num=20, metrics=["frechet"], seed=3)
    assert part.files.count == len(part.order) == 20
    assert {score.key for score in part.scores} == {f"fd_{s}" for s in lite0_extractor.dims}
    other = measure(*fashion_sets, lite0_extractor, num=20, metrics=["frechet"], seed=4)
    assert values(other) != values(part)


def test_the_floor_is_a_part_of_the_reference_against_its_rest(evaluated, fashion_sets):
    measured, _ = evaluated
    assert measured.floor_of == "80 images of Fashion-MNIST against its other 240"
    assert measured.no_floor is None
    for score in measured.scores:
        assert (score.floor is not None) == score.key.startswith("fd_")
        assert score.floor is None or 0 < score.floor < score.value


def test_the_floor_of_other_real_images(fashion_sets, lite0_extractor):
    drawn, real = fashion_sets
    found = measure(drawn, real, lite0_extractor, metrics=["frechet"], others=real)
    assert found.floor_of == "80 images of Fashion-MNIST"


def test_a_floor_is_of_as_many_images_as_there_are_samples(fashion_sets, lite0_extractor):
    """Of two draws from one set, neither is above the floor by more than chance."""
    real = fashion_sets[1]
    half, rest = (
        type(real)(f"{part.start}", real.pixels[part]) for part in (slice(0, 80), slice(80, 160))
    )
    alone = measure(first(half, 40), rest, lite0_extractor, metrics=["frechet"])
    assert alone.floor_of is None  # 40 against 40 would be about twice as far apart
    assert alone.no_floor == (
        "the reference has 80 images, less than four times the 40 samples; give others with "
        "--floor, or measure fewer samples: -n 20"
    )
    assert all(score.floor is None for score in alone.scores)
    few = measure(first(half, 20), rest, lite0_extractor, metrics=["frechet"])
    assert few.floor_of == "20 images of 80 against its other 60"
    other = measure(first(half, 40), rest, lite0_extractor, metrics=["frechet"], others=half)
    widest = other.scores[-1]  # where the number of images decides most
    assert widest.value == pytest.approx(widest.floor, rel=0.2)


def test_a_reference_sorted_by_class_keeps_some_of_every_class(
    fashion_sets, lite0_extractor, monkeypatch
):
    """Fewer images are kept than there are: their order must not decide which."""
    monkeypatch.setattr(engine, "FEATURES_OF_REFERENCE", 60)
    real = fashion_sets[1]
    labels = torch.tensor([real.labels(index) for index in range(real.length)])
    by_class = type(real)("sorted", real.pixels[labels.argsort()])
    measured = measure(fashion_sets[0], by_class, lite0_extractor, metrics=["kid"])
    kept = torch.as_tensor(measured.reference.features["h1280"])
    assert len(kept) == 60
    every = measured.real_files.all("h1280")
    rows = torch.cdist(kept.double(), every.double()).argmin(1)
    assert len(labels.sort().values[rows].unique()) == 10


def test_features_deleted_by_another_run_are_made_again(fashion_sets, lite0_extractor):
    files = measure(*fashion_sets, lite0_extractor, metrics=["kid"]).real_files
    files.path(files.ranges[0]).unlink()
    again = measure(*fashion_sets, lite0_extractor, metrics=["kid"]).real_files
    assert again.missing() == [] and again.folder == files.folder


def test_copies_are_counted(evaluated, fashion_sets, lite0_extractor, make_pictures):
    assert evaluated[0].copies == 0
    pixels = fashion_sets[0].pixels[:20].clone()
    pixels[3] = pixels[4]
    copied = make_pictures("copied", pixels)
    assert measure(copied, fashion_sets[1], lite0_extractor, metrics=["frechet"]).copies == 1


def test_a_saved_reference_gives_the_same_numbers(
    evaluated, fashion_sets, lite0_extractor, tmp_path
):
    made = make_reference(fashion_sets[1], lite0_extractor)
    write_reference(tmp_path / "real.npz", made.statistics, made.features, made.meta)
    reference = read_reference(tmp_path / "real.npz", lite0_extractor)
    again = measure(fashion_sets[0], reference, lite0_extractor)
    assert values(again) == pytest.approx(values(evaluated[0]), rel=EXACT)
    assert again.floor_of is None
    assert again.no_floor == "the reference is a file of statistics; give real images with --floor"


def saved(images, extractor, path):
    """A reference that went through a file."""
    made = make_reference(images, extractor)
    write_reference(path, made.statistics, made.features, made.meta)
    return read_reference(path, extractor)


def test_the_floor_of_other_images_takes_only_statistics(fashion_sets, lite0_extractor, tmp_path):
    drawn, real = fashion_sets
    others = type(real)("others", real.pixels[100:300])
    reference = saved(real, lite0_extractor, tmp_path / "real.npz")
    options = {"metrics": ["frechet"], "others": others}
    of_file = measure(drawn, reference, lite0_extractor, **options)
    of_images = measure(drawn, real, lite0_extractor, **options)
    assert of_file.floor_of == of_images.floor_of == "80 images of others"
    for one, other in zip(of_file.scores, of_images.scores, strict=True):
        assert one.floor == pytest.approx(other.floor, rel=EXACT)


def test_the_floor_is_of_any_space_with_a_frechet_distance(fashion_sets, means_extractor):
    extractor = means_extractor
    drawn, real = (first(images, 8) for images in fashion_sets)
    others = type(real)("others", fashion_sets[1].pixels[8:20])
    found = measure(drawn, real, extractor, metrics=["frechet"], others=others)
    assert found.floor_of == "8 images of others"
    assert all(score.floor > 0 for score in found.scores)
    without = measure(drawn, real, extractor, metrics=["frechet"])
    assert (without.floor_of, without.no_floor) == (None, None)  # whose levels are known


@pytest.mark.parametrize(
    ("metrics", "count", "reason"),
    [
        (["kid"], 80, "none of these numbers has a floor; a Fréchet distance has one"),
        (
            ["frechet"],
            79,
            "others has 79 images, fewer than the 80 samples; give more with --floor, or measure "
            "fewer samples: -n 79",
        ),
        (
            ["frechet"],
            1,
            "others has 1 images, fewer than the 80 samples; give more with --floor",
        ),
    ],
)
def test_images_for_a_floor_that_cannot_be_are_not_looked_at(
    fashion_sets, lite0_extractor, metrics, count, reason
):
    drawn, real = fashion_sets
    others = type(real)("others", real.pixels[:count])
    others.batches = None
    found = measure(drawn, real, lite0_extractor, metrics=metrics, others=others)
    assert (found.floor_of, found.no_floor) == (None, reason)


def test_samples_that_are_images_of_the_reference(fashion_sets, lite0_extractor, tmp_path):
    drawn, real = fashion_sets
    some = type(real)("some", real.pixels[5:25])
    options = {"metrics": ["frechet"]}
    assert measure(some, real, lite0_extractor, **options).seen
    assert not measure(drawn, real, lite0_extractor, **options).seen  # one copy among 80
    reference = saved(real, lite0_extractor, tmp_path / "real.npz")
    assert measure(real, reference, lite0_extractor, **options).seen
    assert not measure(drawn, reference, lite0_extractor, **options).seen


def test_the_work_is_known_before_it_is_done(fashion_sets, lite0_extractor):
    drawn, real = fashion_sets
    others = type(real)("others", real.pixels[100:300])
    ticks, totals = [], []
    effort = Effort(tick=ticks.append, expect=totals.append)
    measure(drawn, real, lite0_extractor, 30, ["frechet"], others=others, effort=effort)
    assert totals == [30 + 320 + 30] == [sum(ticks)]


def test_the_layout_of_adm_with_images_for_precision_and_recall(fashion_sets, tmp_path):
    """mu and sigma of many images, `arr_0` of some: neighbours are sought among those."""
    extractor = open_extractor("random-inception-1")
    drawn, real = (first(images, 8) for images in fashion_sets)
    pool, other = (extractor(images.pixels)["pool"] for images in (real, drawn))
    moments = {"mu": pool.mean(0).numpy(), "sigma": np.cov(pool.double().numpy(), rowvar=False)}
    pixels = real.pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "adm.npz", arr_0=pixels, **moments)
    reference = read_reference(tmp_path / "adm.npz", extractor)
    found = values(measure(drawn, reference, extractor))
    assert "sfid" not in found  # the file has no mu_s
    assert (found["precision"], found["recall"]) == precision_recall(pool, other, k=3)
    assert found["kid"] == pytest.approx(kernel_distance(pool, other, subset_size=8)[0], rel=1e-4)
    without = dataclasses.replace(reference, images=None)
    partly = measure(drawn, without, extractor, metrics=["frechet", "kid"])
    assert set(values(partly)) == {"fid"}
    assert partly.left_out == ["no kid: the reference holds neither images nor features"]
    with pytest.raises(UsageError, match=r"computed against .*: no kid: the reference"):
        measure(drawn, without, extractor, metrics=["kid"])


def first(images, count):
    return type(images)(f"{count} of {images.name}", images.pixels[:count])


def test_few_images_are_enough_for_some_metrics(fashion_sets, lite0_extractor):
    found = measure(first(fashion_sets[0], 5), fashion_sets[1], lite0_extractor)
    assert found.left_out == ["no density-coverage: it needs 6 images on each side"]
    assert {"precision", "kid", "fd_s40"} <= set(values(found))


def test_samples_that_are_all_one_picture(fashion_sets, lite0_extractor, make_pictures):
    flat = make_pictures("flat", torch.full((9, 1, 32, 32), 7, dtype=torch.uint8))
    with pytest.raises(InputError, match="the same picture"):
        measure(flat, fashion_sets[1], lite0_extractor)


@pytest.mark.parametrize("num", [0, 1])
def test_too_few_samples(fashion_sets, lite0_extractor, num):
    with pytest.raises(UsageError, match="at least 2 samples"):
        measure(*fashion_sets, lite0_extractor, num=num)


def test_a_reference_of_one_image(fashion_sets, lite0_extractor):
    with pytest.raises(UsageError, match="at least 2 images"):
        measure(fashion_sets[0], first(fashion_sets[1], 1), lite0_extractor)


def test_metrics_that_do_not_exist_or_fit(fashion_sets, lite0_extractor):
    for name, meant in (
        ("frechett", "frechet"),
        ("fid", "frechet"),
        ("recall", "precision-recall"),
    ):
        with pytest.raises(UsageError, match=rf"no metric '{name}'\. Did you mean {meant}\?"):
            measure(*fashion_sets, lite0_extractor, metrics=[name])
    with pytest.raises(UsageError, match=r"no metric 'zzz'\. Known: frechet, is"):
        measure(*fashion_sets, lite0_extractor, metrics=["zzz"])
    with pytest.raises(UsageError, match="is is not defined on lite0-64"):
        measure(*fashion_sets, lite0_extractor, metrics=["is"])


@pytest.fixture(scope="module")
def folders(fashion_sets, tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    for images, name in zip(fashion_sets, ("drawn", "real"), strict=True):
        (root / name).mkdir()
        for number, pixels in enumerate(images.pixels):
            Image.fromarray(pixels[0].numpy()).save(root / name / f"{number}.png")
    return root


def command(processes, *arguments, cache):
    """`gensynth evaluate` in some processes, with a cache of its own; the report."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    launch = [*launch, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "gensynth", "evaluate", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"GENSYNTH_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_one_and_two_processes(folders, evaluated, tmp_path):
    asked = (folders / "drawn", "--reference", folders / "real", "--batch-size", 9)
    two = command(2, *asked, cache=tmp_path / "two")
    assert_same({s["key"]: s["value"] for s in two["scores"]}, values(evaluated[0]))
    assert list((tmp_path / "two" / "features").iterdir())  # the reference's stay


@pytest.mark.slow
def test_a_model_in_one_and_two_processes(tiny_model_folder, folders, tmp_path):
    asked = ("--model", tiny_model_folder, "-n", 140, "--steps", 1, "--labels", "random")
    asked = (*asked, "--reference", folders / "real", "--metrics", "frechet")
    reports = [command(n, *asked, cache=tmp_path / str(n)) for n in (1, 2)]
    one, two = ({s["key"]: s["value"] for s in r["scores"]} for r in reports)
    assert one == pytest.approx(two, rel=EXACT)
    samples = reports[0]["samples"]
    assert (samples["count"], samples["label_rule"], samples["drawing"]["steps"]) == (
        140,
        "random",
        1,
    )
