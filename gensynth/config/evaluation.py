"""The section `evaluation:`."""

from typing import Annotated

from pydantic import Field

from gensynth.config.section import NotNegative, Place, Positive, Section


class Evaluation(Section):
    """The distance between real images and what the averaged weights draw, while they train."""

    every: NotNegative = 0  # steps between two, each after a checkpoint; 0 for none
    num: Annotated[int, Field(ge=2)] = 2000  # pictures drawn each time
    # Real images, or a file of their statistics, as for `gensynth evaluate --reference`; images are
    # brought to data.size by data.fit. None: of fashion_mnist the test split, of other data the
    # training images, 10,000 of them if there are more.
    reference: Place | None = None
    extractor: str = "lite0-64"  # inception-2015 for FID
    weights: Place | None = None  # its file or folder, where it does not bring its own
    batch_size: Positive = 64  # pictures that a process draws together
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0  # of the first picture
