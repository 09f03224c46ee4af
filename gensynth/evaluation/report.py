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
from gensynth.evaluation.engine import Measured
from gensynth.evaluation.measures import PUBLISHED_COUNT, known_origin, space_of
from gensynth.evaluation.rounding import number, rounded, with_error
from gensynth.files import write_text

SCHEMA = 2
METRICS_FILE = "metrics.json"
RELIABLE_OFFLINE = 1000
# Ratio of both readings of the Inception Score above which samples lie in an order.
ORDERED = 0.02


def describe(found: Measured, command: str, seed: int) -> dict[str, Any]:
    """The content of `metrics.json`."""
    samples, extractor = found.samples, found.extractor
    return {
        "schema": SCHEMA,
        "headline": found.headline.key,
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
    widest = max((extractor.dims[feature] for feature in space.frechet.values()), default=0)
    if space.floor:
        if count < RELIABLE_OFFLINE:
            yield f"{count} samples are too few for a reliable number; use {RELIABLE_OFFLINE:,}"
    elif count < 2 * widest:
        yield f"unreliable: {count:,} samples for features of {widest:,} dimensions"
    elif count < PUBLISHED_COUNT:
        yield f"{count:,} samples; published numbers are of {PUBLISHED_COUNT:,}"
    reference = found.reference.meta.get("count")
    if reference is not None and not space.floor and reference < 2 * widest:
        yield f"unreliable: {reference:,} reference images for {widest:,} dimensions"
    yield from found.left_out
    if not space.floor and not known_origin(found.reference):
        yield "the reference does not say how its images were prepared and which network saw them"
    if space.floor and found.floor_of is None and found.headline.floor is None:
        yield "no floor: it takes --floor IMAGES, or twice as many reference images as samples"
    if found.copies:
        yield f"{found.copies:,} samples are copies of others, pixel for pixel"
    if getattr(found.samples, "lossy", False):
        yield "samples are stored with loss (JPEG or the like), which changes distances; use PNG"
    if "pool" in extractor.dims and not extractor.official:
        yield "the weights are not the published ones: this is not FID"
    for score in found.scores:
        if score.key == "is" and abs(score.details["in_file_order"] / score.value - 1) > ORDERED:
            yield (
                "the samples are in an order (by class?): ADM's Inception Score, which splits them "
                f"as they come, would be {score.details['in_file_order']:.2f}"
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
    """The number to read first, in a line."""
    score = next(s for s in report["scores"] if s["key"] == report["headline"])
    text = f"{score['name']} = {with_error(score['value'], score['standard_error'])}"
    if score["floor"]:
        text += f" (floor {number(score['floor'])}, {score['value'] / score['floor']:.1f} times it)"
    return text


def print_report(report: dict[str, Any], console: Console | None = None) -> None:
    """Warnings, the headline, all numbers and what they are of."""
    console = console or Console(width=100, highlight=False)
    for text in report["warnings"]:
        console.print(f"warning: {text}", markup=False)
    console.print(summary(report), markup=False)
    table = Table()
    for column in ("number", "value", "± s.e.", "corrected", "floor", ""):
        table.add_column(column, justify="left" if column in ("number", "") else "right")
    for score in report["scores"]:
        cells = [*rounded(score["value"], score["standard_error"])]
        cells += ["" if c is None else number(c) for c in (score["corrected"], score["floor"])]
        table.add_row(score["name"], *cells, f"{score['better']} is better")
    console.print(table)
    samples, reference = report["samples"], report["reference"]
    of = "" if reference["count"] is None else f"{reference['count']:,} images of "
    console.print(
        f"{samples['count']:,} samples of {samples['name']} against {of}{reference['name']}"
        + (f"; floor: {report['floor_of']}" if report["floor_of"] else ""),
        markup=False,
    )
