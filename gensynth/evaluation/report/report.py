"""What was measured, with all that its numbers depend on: `metrics.json` and a table."""

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
import PIL
import torch
from rich.console import Console
from rich.table import Table

from gensynth import __version__
from gensynth.errors import OutputError
from gensynth.evaluation.drawn import DrawnImages
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import PUBLISHED_COUNT, known_origin, space_of
from gensynth.evaluation.measuring.rounding import number, rounded, with_error
from gensynth.evaluation.report.words import sentences
from gensynth.files import write_text
from gensynth.metrics.extractors import Extractor
from gensynth.preflight.measuring import METRICS_FILE as METRICS_FILE

SCHEMA = 2
SHARED = 0.01  # of a floor's images; a data set may hold a picture twice
RELIABLE_OFFLINE = 1000  # samples, where a floor is used
# Ratio of both readings of the Inception Score above which samples lie in an order.
ORDERED = 0.02


def describe(found: Measured, command: str, seed: int) -> dict[str, Any]:
    """The content of `metrics.json`."""
    samples, extractor = found.samples, found.extractor
    return {
        "schema": SCHEMA,
        "headline": found.headline.key,
        "too_few_samples": too_few(found) is not None,
        "scores": [asdict(score) for score in found.scores],
        "floor_of": found.floor_of,
        "samples": {
            "name": samples.name,
            "count": found.files.count,
            "available": samples.length,
            "selection_seed": seed,
            "fingerprint": samples.fingerprint,
            "copies": found.copies,
            **drawn_by(found),
        },
        "reference": {
            "name": found.reference.name,
            "count": found.reference.meta.get("count"),
            "size": found.reference.meta.get("size"),
            "images_sha256": found.reference.images_sha256,
            "sha256": found.reference.sha256,
            "statistics_sha256": found.reference.statistics_sha256,
            "published": found.reference.meta.get("published"),
            "verified": found.reference.meta.get("verified"),
        },
        "extractor": {
            "name": extractor.name,
            "preprocessing": extractor.preprocessing,
            "weights_sha256": extractor.weights_sha256,
            "fingerprint": extractor.fingerprint,
            "official": extractor.official,
        },
        **({} if found.companions is None else {"beside": found.companions.facts}),
        "versions": versions(),
        "device": device_name(),
        "command": command,
        "seconds": {name: round(value, 2) for name, value in found.seconds.items()},
        "warnings": list(warnings_of(found)),
    }


def drawn_by(found: Measured) -> dict[str, Any]:
    """How a model drew the samples, if one did for this."""
    samples = found.samples
    if not isinstance(samples, DrawnImages):
        return {}
    return {
        "model": samples.model,
        "seed": samples.seed,
        "label_rule": samples.label_rule,
        "drawing": samples.protocol,
    }


def versions() -> dict[str, str]:
    return {
        "gensynth": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def warnings_of(found: Measured) -> Iterator[str]:
    """What a reader of the numbers has to know."""
    count, extractor, space = found.files.count, found.extractor, space_of(found.extractor)
    few = too_few(found)
    if few is not None:
        yield few
    elif not space.floor and count < PUBLISHED_COUNT:  # there are none where a floor is used
        yield f"{count:,} samples; published numbers are of {PUBLISHED_COUNT:,}"
    reference = found.reference.meta.get("count")
    # A covariance from fewer than two images for each dimension is not to be relied on.
    if reference is not None and not space.floor and reference < 2 * widest(extractor):
        yield f"unreliable: {reference:,} reference images for {widest(extractor):,} dimensions"
    if found.asked is not None and count < found.asked:
        name = found.samples.name
        yield f"{found.asked:,} samples were asked for, and {name} has {count:,}: all were used"
    yield from found.left_out
    if not space.floor and not known_origin(found.reference):
        yield "the reference does not say how its images were prepared and which network saw them"
    yield from other_sizes(found)
    yield from found.remarks
    if found.no_floor is not None:
        yield f"what real images score is not known: {found.no_floor}"
    if found.floor_of is not None and found.floor_seen > found.files.count * SHARED:
        yield (
            f"{found.floor_seen:,} of the {found.files.count:,} images of the floor are images of "
            "the reference, pixel for pixel, so it says nothing: give others with --floor"
        )
    if found.seen:
        yield "every sample is an image of the reference, pixel for pixel"
    if found.copies:
        yield f"{found.copies:,} samples are copies of others, pixel for pixel"
    if found.samples.lossy:
        yield "samples are stored with loss (JPEG or the like), which changes distances; use PNG"
    if "pool" in extractor.dims and not extractor.official:
        yield "the weights are not the published ones: this is not FID"
    for score in found.scores:
        if score.key == "is" and abs(score.details["in_file_order"] / score.value - 1) > ORDERED:
            yield (
                "the samples are in an order (by class?): ADM's Inception Score, which splits them "
                f"as they come, would be {score.details['in_file_order']:.2f}"
            )


def too_few(found: Measured) -> str | None:
    """A warning if there are too few samples for a reliable number; None otherwise."""
    count, width = found.files.count, widest(found.extractor)
    if space_of(found.extractor).floor:
        few = count < RELIABLE_OFFLINE
        reason = f"{count} samples are too few for a reliable number; use {RELIABLE_OFFLINE:,}"
        return reason if few else None
    if count < 2 * width:  # the covariance is nearly singular then
        return f"unreliable: {count:,} samples for features of {width:,} dimensions"
    return None


def widest(extractor: Extractor) -> int:
    """The most values of a feature with a Fréchet distance; 0 if none has one."""
    return max((extractor.dims[name] for name in space_of(extractor).frechet.values()), default=0)


def other_sizes(found: Measured) -> Iterator[str]:
    """A warning for real images of another size than the samples."""
    drawn, reference = found.sizes.get("samples"), found.sizes.get("reference")
    for name in ("reference", "floor"):
        real = found.sizes.get(name)
        # one sentence is enough where the floor has the reference's size
        if drawn is None or real in (None, drawn) or (name == "floor" and real == reference):
            continue
        size = f"--size {min(drawn)}"
        advice = f"bring real images to that size with {size}"
        if name == "reference" and found.real_files is None:
            advice = f"make one of that size with gensynth reference IMAGES {size}"
        yield (
            f"samples are {drawn[0]}x{drawn[1]}, images of the {name} {real[0]}x{real[1]}, which "
            f"changes distances: {advice}"
        )


def write_report(report: dict[str, Any], path: Path) -> None:
    """Writes a report as JSON.

    Raises:
        OutputError: the disk is full or the folder not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(report, indent=1) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {path}: {reason}. Choose another --out.") from error


def summary(report: dict[str, Any]) -> str:
    """The number to read first, and what real images score unless the samples were too few."""
    score = next(s for s in report["scores"] if s["key"] == report["headline"])
    text = f"{score['name']} = {with_error(score['value'], score['standard_error'])}"
    if score["floor"]:
        ratio = f"; this is {score['value'] / score['floor']:.1f} times that"
        few = report.get("too_few_samples", False)
        text += f" (real images score {number(score['floor'])}{'' if few else ratio})"
    return text


def print_report(report: dict[str, Any], console: Console | None = None) -> None:
    """Warnings, the headline, all numbers and what they are of."""
    console = console or Console(width=100, highlight=False)
    for text in report["warnings"]:
        console.print(f"warning: {text}", markup=False)
    console.print(summary(report), markup=False)
    table = Table()
    for column in ("number", "value", "± s.e.", "corrected", "real images", ""):
        table.add_column(column, justify="left" if column in ("number", "") else "right")
    for score in report["scores"]:
        cells = [*rounded(score["value"], score["standard_error"])]
        cells += ["" if c is None else number(c) for c in (score["corrected"], score["floor"])]
        table.add_row(score["name"], *cells, f"{score['better']} is better")
    console.print(table)
    for text in sentences(report["scores"]):
        console.print(text, markup=False)
    samples, reference = report["samples"], report["reference"]
    of = "" if reference["count"] is None else f"{reference['count']:,} images of "
    console.print(
        f"{samples['count']:,} samples of {samples['name']} against {of}{reference['name']}"
        + (f"; real images: {report['floor_of']}" if report["floor_of"] else ""),
        markup=False,
    )
