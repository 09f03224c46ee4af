"""What real images score, which a distance is read beside."""

import pytest
import torch
import torch.nn.functional as F

from gensynth.evaluation.measuring.measure import measure
from gensynth.metrics.extractors.extractor import Extractor

EXACT = 1e-6  # relative


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
    alone = measure(half.first(40), rest, lite0_extractor, metrics=["frechet"])
    assert alone.floor_of is None  # 40 against 40 would be about twice as far apart
    assert alone.no_floor == (
        "the reference has 80 images, less than four times the 40 samples; give others with --floor"
    )
    assert all(score.floor is None for score in alone.scores)
    few = measure(half.first(20), rest, lite0_extractor, metrics=["frechet"])
    assert few.floor_of == "20 images of 80 against its other 60"
    other = measure(half.first(40), rest, lite0_extractor, metrics=["frechet"], others=half)
    widest = other.scores[-1]  # where the number of images decides most
    assert widest.value == pytest.approx(widest.floor, rel=0.2)


def test_the_floor_of_other_images_takes_only_statistics(
    fashion_sets, lite0_extractor, saved, tmp_path
):
    drawn, real = fashion_sets
    others = type(real)("others", real.pixels[100:300])
    reference = saved(real, lite0_extractor, tmp_path / "real.npz")
    options = {"metrics": ["frechet"], "others": others}
    of_file = measure(drawn, reference, lite0_extractor, **options)
    of_images = measure(drawn, real, lite0_extractor, **options)
    assert of_file.floor_of == of_images.floor_of == "80 images of others"
    for one, other in zip(of_file.scores, of_images.scores, strict=True):
        assert one.floor == pytest.approx(other.floor, rel=EXACT)


class Means(Extractor):
    """A space like Inception's, of a few means of pixels."""

    def __init__(self):
        super().__init__("means", "none", {"pool": 16, "spatial": 64}, "0" * 64, False)
        self.register_buffer("here", torch.zeros(()))

    def preprocess(self, images):
        return images[:, 0].float() / 255

    def features(self, pixels):
        means = {"pool": 4, "spatial": 8}
        return {k: F.adaptive_avg_pool2d(pixels, n).flatten(1) for k, n in means.items()}


def test_the_floor_is_of_any_space_with_a_frechet_distance(fashion_sets):
    extractor = Means()
    drawn, real = (images.first(8) for images in fashion_sets)
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
        (["frechet"], 79, "others has 79 images, fewer than the 80 samples"),
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
