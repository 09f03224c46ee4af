"""Real images beside the samples have to be others than those that both are compared with."""

import torch

from gensynth.evaluation.measuring.measure import make_reference, measure
from gensynth.evaluation.references.reference import read_reference, write_reference
from gensynth.evaluation.report.report import warnings_of


def the_first(images, count):
    return type(images)(f"{count} of {images.name}", images.pixels[:count])


def saved(images, extractor, path):
    """A reference that went through a file."""
    made = make_reference(images, extractor)
    write_reference(path, made.statistics, made.features, made.meta)
    return read_reference(path, extractor)


def test_a_floor_of_the_reference_itself_is_told(fashion_sets, lite0_extractor, tmp_path):
    drawn, real = fashion_sets
    eighty = the_first(real, 80)
    new = type(real)("new", real.pixels[80:200])
    mixed = type(real)("mixed", torch.cat([real.pixels[79:80], real.pixels[80:159]]))

    def told(reference, others):
        found = measure(drawn, reference, lite0_extractor, metrics=["frechet"], others=others)
        return [text for text in warnings_of(found) if "of the floor are" in text]

    words = "80 of the 80 images of the floor are images of the reference, pixel for pixel"
    assert words in told(real, real)[0] and "give others with --floor" in told(real, real)[0]
    assert words in told(saved(eighty, lite0_extractor, tmp_path / "real.npz"), eighty)[0]
    assert told(eighty, new) == []
    assert told(eighty, mixed)[0].startswith("1 of the 80")
    assert told(the_first(real, 79), mixed) == []
