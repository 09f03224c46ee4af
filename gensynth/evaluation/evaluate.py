"""Samples x reference -> report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gensynth import __version__
from gensynth.errors import OutputError, UsageError
from gensynth.evaluation.sources import ImageSet, open_images
from gensynth.files import write_text
from gensynth.metrics.frechet import FrechetDistance
from gensynth.metrics.lite0 import Lite0Features
from gensynth.seeding import derived_seed

HEADLINE = "s112"  # the stage that separates weak degradations best from 500 images on
RELIABLE = 1000

Tick = Callable[[int], None]


def subset(length: int, num: int) -> list[int]:
    """`num` of 0..length-1, the same ones every time, sorted; all if there are no more."""
    if num >= length:
        return list(range(length))
    generator = torch.Generator().manual_seed(derived_seed("subset", length))
    return sorted(torch.randperm(length, generator=generator)[:num].tolist())


def take_in(
    metric: FrechetDistance, images: ImageSet, indices: list[int], real: bool, tick: Tick
) -> None:
    """Feeds images to a metric; `tick(count)` is told of progress."""
    for batch in images.batches(indices):
        metric.update(batch, real=real)
        tick(len(batch))


def floor_of(
    metric: FrechetDistance, reference: str, real: ImageSet, count: int, fit: str, tick: Tick
) -> tuple[dict[str, float], str]:
    """What `count` real images score, and a description of them. `metric` holds the reference."""
    metric.reset_generated()
    if reference in ("fashion_mnist", "fashion_mnist:test"):
        others = open_images("fashion_mnist:train", None, fit)
        chosen = subset(others.length, count)
        take_in(metric, others, chosen, False, tick)
        return metric.compute(), f"{len(chosen)} images of fashion_mnist:train"
    half = subset(real.length, min(count, real.length // 2))
    rest = sorted(set(range(real.length)) - set(half))
    metric.reset()
    take_in(metric, real, half, False, tick)
    take_in(metric, real, rest, True, tick)
    return metric.compute(), f"{len(half)} images of {reference} against its other {len(rest)}"


def evaluate(
    samples: str | Path,
    reference: str,
    num: int | None = None,
    size: int | None = None,
    fit: str = "crop",
    tick: Tick = lambda count: None,
) -> dict[str, Any]:
    """The distance of samples to a reference, and its floor: what real images score.

    The floor compares as many real images, none of them among those of the reference it is held
    against: the training images for `fashion_mnist:test`, otherwise one half of the reference
    against the other.

    Args:
        samples, reference: see `open_images`.
        num: number of samples to use; None for all.
        size, fit: how the reference is brought to the size of the samples.
        tick: called with the number of images that went through.

    Raises:
        InputError: images that are missing or unreadable.
        UsageError: fewer than two images.
    """
    drawn, real = open_images(str(samples)), open_images(reference, size, fit)
    count = drawn.length if num is None else min(num, drawn.length)
    if count < 2 or real.length < 4:
        raise UsageError(
            f"a distance needs at least 2 samples and 4 reference images, got {count} and "
            f"{real.length}."
        )
    extractor = Lite0Features()
    metric = FrechetDistance(extractor)
    take_in(metric, drawn, subset(drawn.length, count), False, tick)
    take_in(metric, real, list(range(real.length)), True, tick)
    scores = metric.compute()
    floor, floor_text = floor_of(metric, reference, real, count, fit, tick)
    return {
        "schema": 1,
        "metric": f"FD({extractor.name})",
        "value": scores[HEADLINE],
        "floor": floor[HEADLINE],
        "ratio": scores[HEADLINE] / floor[HEADLINE] if floor[HEADLINE] else None,
        "stages": {name: {"value": scores[name], "floor": floor[name]} for name in scores},
        "headline_stage": HEADLINE,
        "samples": str(samples),
        "num_samples": count,
        "reference": reference,
        "num_reference": real.length,
        "floor_of": floor_text,
        "preprocessing": f"bicubic antialiased to {extractor.size}, (x - 127) / 128",
        "warnings": (
            [f"{count} samples are too few for a reliable number; use {RELIABLE} or more"]
            if count < RELIABLE
            else []
        ),
        "gensynth": __version__,
    }


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
    """A report in a few lines of text."""
    lines = [
        f"{report['metric']} = {report['value']:.2f} (floor {report['floor']:.2f}, "
        + (f"{report['ratio']:.1f} times it)" if report["ratio"] else "no ratio)"),
        f"{report['num_samples']} samples against {report['num_reference']} images of "
        f"{report['reference']}; floor: {report['floor_of']}",
        "  ".join(
            f"{name} {score['value']:.2f} ({score['floor']:.2f})"
            for name, score in report["stages"].items()
        ),
    ]
    return "\n".join([f"warning: {text}" for text in report["warnings"]] + lines)
