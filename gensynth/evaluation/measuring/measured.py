"""What an evaluation found, and what it was computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gensynth.evaluation.measuring.beside import Companions
from gensynth.evaluation.measuring.features import FeatureFiles, Images
from gensynth.evaluation.measuring.measures import Score, space_of
from gensynth.evaluation.references.reference import Reference
from gensynth.metrics.extractors import Extractor


@dataclass
class Measured:
    """The scores of an evaluation, and what they were computed from.

    Attributes:
        order: which images of `samples` were used; positions in `files` are positions in it.
        real, real_files: the images of the reference and all their features, if it is not a file of
            statistics.
        floor_of: what the floors of the scores compare; None without floors.
        no_floor: why they have none, where one is to be expected.
        left_out: a sentence for each metric that could not be computed.
        asked: how many samples were asked for; None for all.
        copies: how many samples repeat an earlier one pixel for pixel.
        seen: whether every sample is an image of the reference, pixel for pixel.
        floor_seen: how many images of the floor are images of the reference, pixel for pixel.
        sizes: width and height of the samples, and of the images of the reference and of the floor
            where they are known.
        further: features of the samples by other networks.
        companions: pictures beside the samples, if training pictures or prompts are known.
        remarks: what a reader of the numbers has to know of those.
        seconds: how long extracting and computing took.
    """

    samples: Images
    order: Sequence[int]
    files: FeatureFiles
    reference: Reference
    extractor: Extractor
    scores: list[Score]
    real: Images | None = None
    real_files: FeatureFiles | None = None
    floor_of: str | None = None
    no_floor: str | None = None
    left_out: list[str] = field(default_factory=list)
    asked: int | None = None
    copies: int = 0
    seen: bool = False
    floor_seen: int = 0
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    further: list[FeatureFiles] = field(default_factory=list)
    companions: Companions | None = None
    remarks: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def headline(self) -> Score:
        """The number to read first."""
        key = space_of(self.extractor).headline
        return next((s for s in self.scores if s.key == key), self.scores[0])
