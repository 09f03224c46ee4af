"""Published numbers of published samples, computed again: for those who have the files.

They come from ADM's evaluator under TensorFlow and from torch-fidelity, with the published weights
of the FID Inception. A port of ADM's evaluator to PyTorch (lavinal712) got within 0.0016 of the
FID, 0.0011 of the sFID and 0.14 of the Inception Score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gensynth.data.files.image_set import open_images
from gensynth.errors import InputError, PartialError, RefusedError
from gensynth.evaluation.measuring.features import Effort, Images, extract
from gensynth.evaluation.measuring.measure import measure
from gensynth.evaluation.references.published import ADM, PUBLISHED
from gensynth.evaluation.references.reference import read_reference
from gensynth.metrics import inception_score
from gensynth.metrics.extractors import Extractor, open_extractor
from gensynth.processes import processes
from gensynth.system.disk import cache_folder

EXTRACTOR = "inception-2015"
# Over ten splits in random order, and over splits of 5,000 in file order as ADM computes it.
SCORE, SCORE_IN_ORDER = "is", "is_in_file_order"
# Which metric makes a number, where it is not a Fréchet distance.
METRIC_OF = {
    SCORE: "is",
    SCORE_IN_ORDER: "is",
    "precision": "precision-recall",
    "recall": "precision-recall",
}
# Wider than what the port above missed the numbers by.
TOLERANCES = {
    "fid": 0.005,
    "sfid": 0.005,
    SCORE: 0.2,
    SCORE_IN_ORDER: 0.2,
    "precision": 0.004,
    "recall": 0.004,
}


@dataclass(frozen=True)
class Download:
    """A file or folder to place by hand, and where to get it."""

    name: str
    url: str


@dataclass(frozen=True)
class Golden:
    """Published numbers of one set of samples.

    Attributes:
        expected: by the key of the number; "is_in_file_order" is ADM's Inception Score.
        source: who published them.
        reference: None if the numbers only need the samples.
    """

    name: str
    samples: Download
    expected: dict[str, float]
    source: str
    reference: Download | None = None

    @property
    def files(self) -> list[Download]:
        return [self.samples, *([] if self.reference is None else [self.reference])]


@dataclass(frozen=True)
class Row:
    """One number, as published and as found here."""

    golden: str
    key: str
    expected: float
    tolerance: float
    found: float

    @property
    def passed(self) -> bool:
        """Whether it is as published."""
        return abs(self.found - self.expected) <= self.tolerance


def _adm(size: int, samples: str, expected: dict[str, float], source: str) -> Golden:
    batch = PUBLISHED[f"imagenet{size}"]
    return Golden(
        f"imagenet{size}",
        Download(samples, f"{ADM}/{size}/{samples}"),
        expected,
        source,
        Download(batch.file, batch.url),
    )


GOLDENS = (
    _adm(
        256,
        "admnet_guided_upsampled_imagenet256.npz",
        {
            "fid": 3.94256,
            "sfid": 6.14043,
            SCORE_IN_ORDER: 215.837,
            "precision": 0.8265,
            "recall": 0.5309,
        },
        "openai/guided-diffusion, evaluations/README.md",
    ),
    _adm(
        128,
        "admnet_guided_imagenet128.npz",
        {
            "fid": 2.973289,
            "sfid": 5.094564,
            SCORE_IN_ORDER: 141.477,
            "precision": 0.78138,
            "recall": 0.5929,
        },
        "ADM's evaluator under TensorFlow, as lavinal712 ran it",
    ),
    _adm(
        64,
        "admnet_imagenet64.npz",
        {"fid": 2.61416},
        "openai/guided-diffusion, issue 75",
    ),
    Golden(
        "CIFAR-10 train",
        Download(
            "cifar10-train",
            "https://www.cs.toronto.edu/~kriz/cifar.html, its 50,000 training images as PNG",
        ),
        {SCORE: 11.23678},
        "toshas/torch-fidelity, README.md",
    ),
)


def selfcheck(
    folder: Path,
    weights: Path | None = None,
    *,
    download: bool = False,
    effort: Effort | None = None,
    goldens: Sequence[Golden] = GOLDENS,
) -> None:
    """Prints every published number whose files are in `folder` beside what comes out here.

    Args:
        weights, download: of inception-2015, see `open_extractor`.

    Raises:
        InputError: none of the files is there, or one cannot be read.
        RefusedError: weights other than the published ones, for which no number is known.
        PartialError: a number is not as published.
    """
    present = complete(folder, goldens)
    extractor = open_extractor(EXTRACTOR, weights, processes().device, download=download)
    if not extractor.official:
        raise RefusedError(
            f"{weights} is not the published weights file of {EXTRACTOR}: its SHA-256 is "
            f"{extractor.weights_sha256[:12]}…. The published numbers only hold with that file."
        )
    rows = [row for golden in present for row in check(golden, folder, extractor, effort)]
    if processes().is_main_process:
        conclude(rows, [golden for golden in goldens if golden not in present])


def place(folder: Path, file: Download) -> Path | None:
    """Where a file lies: in a folder, or where published references are kept; None if nowhere."""
    paths = (folder / file.name, cache_folder("references") / file.name)
    return next((path for path in paths if path.exists()), None)


def complete(folder: Path, goldens: Sequence[Golden]) -> list[Golden]:
    """Those whose files are all in a folder.

    Raises:
        InputError: there are none; the message says which files to place.
    """
    present = [golden for golden in goldens if all(place(folder, f) for f in golden.files)]
    if not present:
        wanted = "; or ".join(
            " and ".join(f"{file.name} ({file.url})" for file in golden.files) for golden in goldens
        )
        raise InputError(f"no published samples are in {folder}. Place there {wanted}.")
    return present


def check(
    golden: Golden, folder: Path, extractor: Extractor, effort: Effort | None = None
) -> list[Row]:
    """The numbers of one set of samples; empty in all processes but the main one.

    Raises:
        InputError: a file that cannot be read, or samples that were stored with loss.
    """
    samples, *reference = (place(folder, file) for file in golden.files)
    images = open_images(str(samples))
    if images.lossy:
        raise InputError(
            f"{images.name} is stored with loss (JPEG or the like), which changes every number. "
            "Place the images as PNG."
        )
    metrics = sorted({METRIC_OF.get(key, "frechet") for key in golden.expected})
    found = computed(images, reference, metrics, extractor, effort or Effort())
    if not processes().is_main_process:
        return []
    return [
        Row(golden.name, key, value, TOLERANCES[key], found.get(key, math.nan))  # NaN fails
        for key, value in golden.expected.items()
    ]


def computed(
    images: Images,
    reference: Sequence[Path | None],
    metrics: Sequence[str],
    extractor: Extractor,
    effort: Effort,
) -> dict[str, float]:
    """Our numbers by their keys, of these metrics; empty in all processes but the main one."""
    if not reference:
        effort.expect(images.length)
        files = extract(images, range(images.length), extractor, effort)
        if not processes().is_main_process:
            return {}
        return {SCORE: inception_score(files.all("logits"))[0]}
    real = read_reference(str(reference[0]), extractor)
    measured = measure(images, real, extractor, metrics=metrics, effort=effort)
    if measured is None:
        return {}
    found = {score.key: score.value for score in measured.scores}
    for score in measured.scores:
        if score.key == SCORE:
            found[SCORE_IN_ORDER] = score.details["in_file_order"]
    return found


def conclude(
    rows: Sequence[Row], absent: Sequence[Golden] = (), console: Console | None = None
) -> None:
    """Prints a table of expected and found numbers.

    Raises:
        PartialError: a number is not as published.
    """
    console = console or Console(width=100, highlight=False)
    table = Table()
    for column in ("samples", "number", "published", "found", "within", ""):
        table.add_column(column, justify="left" if column in ("samples", "number") else "right")
    for row in rows:
        numbers = (f"{row.expected:.4f}", f"{row.found:.4f}", f"{row.tolerance:g}")
        table.add_row(row.golden, row.key, *numbers, "ok" if row.passed else "MISSED")
    console.print(table)
    for golden in absent:
        names = " and ".join(file.name for file in golden.files)
        console.print(f"not checked: {golden.name}, which needs {names}", markup=False)
    missed = [row for row in rows if not row.passed]
    if missed:
        names = ", ".join(f"{row.key} of {row.golden}" for row in missed)
        raise PartialError(
            f"{len(missed)} of {len(rows)} published numbers were missed: {names}. With the "
            "published files this is a fault of the installation; please report it."
        )
