"""Orders to measure and compare: are the images, weights and names there?"""

import ast
import os
import re
from collections.abc import Iterable
from glob import glob
from pathlib import Path

from gensynth.errors import InputError, UsageError, nearest
from gensynth.system import outline
from gensynth.system.disk import cache_folder
from gensynth.system.hub import check_data, weights_missing

EXTRACTORS = "gensynth.metrics.extractors"
TABLES = "gensynth.data.tables"
PUBLISHED = "gensynth.evaluation.references.published"
METRICS_FILE = "metrics.json"
EVALUATIONS_FILE = "evaluations.jsonl"
# What people call a metric after the numbers that it makes.
ALSO = {
    **dict.fromkeys(("fid", "sfid", "fd"), "frechet"),
    "precision": "precision-recall",
    "recall": "precision-recall",
    "density": "density-coverage",
    "coverage": "density-coverage",
}
# of prompts and training pictures, in any feature space
BESIDE = ("retrieval", "clip-score", "copies", "held-out")
METRICS = ("frechet", "is", "precision-recall", "density-coverage", "kid", "cmmd", *BESIDE)


def check_images(where: str) -> None:
    """Whether anything is where images are to be read, or what stands for them.

    Raises:
        InputError: nothing is there.
    """
    of_hub = where.startswith("hub:") and not Path(where).exists()
    named = where.removeprefix("hub:") if of_hub else where
    place = named if Path(named).exists() else re.sub(r":\w+(\[[^\]]*\])?$", "", named)
    if place in outline.keys(TABLES, "BUNDLED_SETS") or Path(place).exists():
        return
    if of_hub:
        check_data(place)
        return
    if not glob(place) and place not in outline.keys(PUBLISHED, "PUBLISHED"):
        raise nothing_at(place)


def nothing_at(place: str) -> InputError:
    """What to say where no images are."""
    return InputError(
        f"there are no images at {place!r}: give a folder, an .npz, .tar or .parquet file, "
        "hub:OWNER/NAME, emoji:test or fashion_mnist:test."
    )


def check_reference(where: str) -> None:
    """`check_images` of real images, or of a file of their statistics.

    Raises:
        InputError: nothing is there.
    """
    # An .npz that is missing is more often statistics that were never made than images.
    if where.lower().endswith(".npz") and not Path(where).exists():
        raise InputError(
            f"{where} is not there: give real images, or a file of statistics, as gensynth "
            f"reference IMAGES --out {where} makes one."
        )
    check_images(where)


def check_space(extractor: str | None, weights: Path | None, download: bool) -> None:
    """Whether there is such a feature space, and its weights.

    Raises:
        UsageError: there is no extractor of that name.
        InputError: its weights are not there.
    """
    name = extractor or ("lite0-64" if weights is None else "inception-2015")
    known = outline.keys(EXTRACTORS, "EXTRACTORS")
    if re.sub(r"(?<=^random-inception-)\d+$", "<seed>", name) not in known or "<" in name:
        raise UsageError(f"there is no extractor {name!r}. Known: {', '.join(known)}.")
    if not name.startswith("inception-2015"):
        return
    if weights is not None:
        if not weights.is_file():
            raise InputError(f"there is no weights file {weights}.")
    elif not download:
        published = outline.call(f"{EXTRACTORS}.inception_features", "PUBLISHED")
        _check_published_weights(ast.literal_eval(published["names"]), published["url"])


def _check_published_weights(names: tuple[str, ...], url: ast.expr) -> None:
    folders = [cache_folder("weights"), _torch_hub() / "checkpoints"]
    if not any((folder / name).is_file() for folder in folders for name in names):
        target = folders[0] / names[0]
        raise weights_missing(names[0], folders, ast.literal_eval(url), target)


def _torch_hub() -> Path:
    """Where `torch.hub` keeps what it has fetched."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub"


def check_metrics(names: Iterable[str]) -> None:
    """
    Raises:
        UsageError: there is no metric of a name; the message says which is meant.
    """
    for name in names:
        if name not in METRICS:
            close = nearest(name, (*ALSO, *METRICS))
            hint = f" Did you mean {ALSO.get(close, close)}?" if close else ""
            raise UsageError(f"no metric {name!r}.{hint} Known: {', '.join(METRICS)}.")


def numbers_file(place: Path) -> Path:
    """The file with the numbers of a run.

    Raises:
        InputError: there is no such file.
    """
    # a report first, where a folder holds both
    candidates = [place] if place.is_file() else [place / METRICS_FILE, place / EVALUATIONS_FILE]
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(
        f"there are no numbers in {place}: give a {METRICS_FILE}, a folder with one, or a training "
        f"run with {EVALUATIONS_FILE}."
    )
