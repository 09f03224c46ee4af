"""`report.html`: what was measured, on one page for whoever has to judge a model."""

from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from gensynth.errors import OutputError
from gensynth.evaluation.measuring.class_distances import class_distances
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.rounding import rounded, with_error
from gensynth.evaluation.report.companions import companion_sections
from gensynth.evaluation.report.figures import class_bars, trade_off
from gensynth.evaluation.report.gallery import gallery_sections
from gensynth.evaluation.report.page_parts import (
    bullets,
    contents,
    document,
    figure,
    paragraph,
    section,
    table,
)
from gensynth.evaluation.report.report import number
from gensynth.evaluation.report.words import meaning, sentences
from gensynth.files import write_text

MOST_BARS = 30  # classes in one figure
MEANING = {
    "is": "How sure a classifier is of each picture, and how varied its answers are.",
    "precision": "Share of samples that lie among reference images: quality.",
    "recall": "Share of reference images that lie among samples: variety.",
    "density": "How densely reference images surround the samples: quality; may exceed 1.",
    "coverage": "Share of reference images with a sample nearby: variety.",
    "kid": "Distance by a kernel, without bias of the number of samples; may fall below 0.",
    "cmmd": "Distance by a kernel in the feature space of CLIP.",
    "sfid": "Fréchet distance of features that know where in the picture they are.",
    "fd_s40": "Fréchet distance in an early layer: texture.",
    "fd_s112": "Fréchet distance in a middle layer: parts of objects.",
    "fd_s320": "Fréchet distance in a late layer.",
    "fd_h1280": "Fréchet distance in the last layer: what is shown.",
}
FRECHET = "Distance between the distributions of the features of both sets."
ARROWS = {"lower": "↓", "higher": "↑"}


def write_page(measured: Measured, report: dict[str, Any], path: Path) -> None:
    """Writes a page that needs no other file and no network.

    Raises:
        OutputError: the disk is full or the folder not writable.
        InputError: a picture that is to be shown cannot be read.
    """
    sections = {  # in the order of the page
        "All numbers": numbers(report),
        "Quality against variety": trade_offs(report),
        **gallery_sections(measured),
        **companion_sections(measured),
        "Fréchet distance of each class": classes(measured),
        "What was measured": facts(report),
    }
    parts = [*headline(measured, report), contents(sections)]
    parts += [section(title, *body) for title, body in sections.items()]
    text = document(f"{best_known_as(report)} · {report['samples']['name']}", parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {path}: {reason}. Choose another --out.") from error


def first_score(report: dict[str, Any]) -> dict[str, Any]:
    return next(score for score in report["scores"] if score["key"] == report["headline"])


def best_known_as(report: dict[str, Any]) -> str:
    """The headline: name, value and error."""
    score = first_score(report)
    return f"{score['name']} = {with_error(score['value'], score['standard_error'])}"


def headline(measured: Measured, report: dict[str, Any]) -> Iterator[str]:
    """The number to read first, in plain words, and all warnings."""
    unbroken = best_known_as(report).replace(" ± ", "\u00a0±\u00a0")  # no line ends at ±
    yield f"<header>\n<h1>{escape(unbroken)}</h1>"
    samples, reference = report["samples"], report["reference"]
    of = "" if reference["count"] is None else f"{reference['count']:,} images of "
    yield paragraph(
        f"{samples['count']:,} samples of {samples['name']} against {of}{reference['name']}. "
        f"{first_score(report)['better'].capitalize()} is better."
    )
    if report.get("protocol"):
        published = report["protocol_details"]["published"]
        yield paragraph(
            f"Protocol: {report['protocol']}. Published there: "
            f"{', '.join(f'{key} {value}' for key, value in published.items())}."
        )
    for text in report["warnings"]:
        yield paragraph(f"Warning: {text}.", "warning")
    yield bullets(how_to_read(measured, report))
    yield "</header>"


def how_to_read(measured: Measured, report: dict[str, Any]) -> Iterator[str]:
    """Sentences about the error, the bias, the floor and what the number compares with."""
    score = first_score(report)
    if score["standard_error"] is not None:
        yield (
            "± is one standard error: of twenty other sets of as many samples about nineteen "
            "would score within two of it."
        )
    if score["corrected"] is not None:
        yield (
            "Finitely many samples raise the distance; without that it would be about "
            f"{digits(score['corrected'], score['standard_error'])}."
        )
    if score["floor"]:
        text = f"Real images score {number(score['floor'])} ({report['floor_of']})."
        if not report["too_few_samples"]:
            text += (
                f" The samples score {score['value'] / score['floor']:.1f} times that; near 1 they "
                "cannot be told from real images by this number. Compare this ratio only between "
                "equal numbers of samples."
            )
        yield text
    elif measured.no_floor is not None:
        yield f"What real images score is not known: {measured.no_floor}."
    if score["name"].startswith("FD("):  # see `measures.frechet_name`
        yield (
            "This is no FID: it compares only with numbers of the same feature space, "
            f"{report['extractor']['name']}."
        )


def numbers(report: dict[str, Any]) -> Iterator[str]:
    """A table of all scores."""
    rows = []
    for score in report["scores"]:
        value, error = rounded(score["value"], score["standard_error"])
        name = f"{escape(score['name'])} {ARROWS[score['better']]}"
        text = MEANING.get(score["key"]) or meaning(score["key"]) or FRECHET
        rows.append(
            [
                f"{name}<small>{escape(text)}</small>",
                value,
                error or "–",
                digits(score["corrected"], score["standard_error"]),
                digits(score["floor"], None),
            ]
        )
    header = ("Number", "Value", "± s.e.", "Corrected", "Real images")
    yield table("numbers", header, rows, "All numbers")
    yield paragraph(
        "↓ lower is better, ↑ higher is better. Corrected: without the bias of a finite number of "
        "samples. Real images: what as many of them score. –: not known.",
        "soft",
    )
    for text in sentences(report["scores"]):
        yield paragraph(text)


def digits(value: float | None, error: float | None) -> str:
    return "–" if value is None else rounded(value, error)[0]


def trade_offs(report: dict[str, Any]) -> Iterator[str]:
    """Precision over recall, density over coverage."""
    scores = {score["key"]: score for score in report["scores"]}
    pairs = [("precision", "recall"), ("density", "coverage")]
    known = [(scores[a], scores[b]) for a, b in pairs if a in scores and b in scores]
    if not known:
        yield paragraph(
            "Not shown: precision, recall, density and coverage were not computed; they take "
            "features of reference images."
        )
        return
    plots = [
        figure(
            partial(trade_off, quality, variety),
            f"{quality['key']} {number(quality['value'])} "
            f"over {variety['key']} {number(variety['value'])}",
        )
        for quality, variety in known
    ]
    yield f'<div class="figures">{"".join(plots)}</div>'
    details = "; ".join(
        f"{quality['key']} and {variety['key']} with k = {quality['details']['k']} neighbours, "
        f"{quality['details']['num_reference']:,} reference images"
        for quality, variety in known
    )
    yield paragraph(
        f"Up and to the right is better; blurred samples can score a high precision, but then a "
        f"low recall. Along a grey line the harmonic mean is the same. {details.capitalize()}.",
        "soft",
    )


def classes(measured: Measured) -> Iterator[str]:
    """A bar for each class, the one furthest from its floor first."""
    found, left_out = class_distances(measured)
    if not found:
        yield paragraph(
            "Not shown: no class has two samples and two reference images."
            if left_out
            else "Not shown: this takes a Fréchet distance as the headline, images for the "
            "reference, and the classes of both sides."
        )
        return
    skipped = f"Left out, with fewer than two images on a side: {len(left_out):,} of the classes."
    shown, name = found[:MOST_BARS], measured.headline.name
    first, last = shown[0], shown[-1]
    alt = (
        f"Bars of {len(shown)} classes, from {first.name} ({number(first.value)}) to "
        f"{last.name} ({number(last.value)})"
    )
    yield f'<div class="figures">{figure(partial(class_bars, shown, name), alt)}</div>'
    counts = [one.num_samples for one in found]
    references = [one.num_reference for one in found]
    few = "" if len(shown) == len(found) else f"The first {len(shown)} of {len(found):,}. "
    yield paragraph(
        f"{few}Each bar compares {span(counts)} samples with {span(references)} reference images "
        "of the class; the mark is what as many other real images of the class score against the "
        "same ones. So few images raise both: compare a bar with its mark, never with the number "
        "above. First comes the class whose bar is longest in relation to its mark. "
        f"{skipped * bool(left_out)}",
        "soft",
    )


def span(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def facts(report: dict[str, Any]) -> Iterator[str]:
    """All that the numbers depend on, and the command."""
    groups = {name: entry for name, entry in report.items() if isinstance(entry, dict)}
    run = ("device", "floor_of", "protocol")
    groups["run"] = {name: report[name] for name in run if report.get(name)}
    yield f"<h3>Command</h3><pre>{escape(report['command'])}</pre>"
    tables = []
    for name, group in groups.items():
        title = name.replace("_", " ").capitalize()
        rows = [[escape(key), escape(value)] for key, value in flat(group)]
        tables.append(f"<div><h3>{title}</h3>{table('facts', (), rows, title)}</div>")
    yield f'<div class="groups">{"".join(tables)}</div>'


def flat(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of a tree, in words."""
    for name, value in entries.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from flat(value, f"{label}: ")
        elif isinstance(value, bool):
            yield label, "yes" if value else "no"
        elif value is None:
            yield label, "–"
        elif isinstance(value, list):
            yield label, ", ".join(map(str, value))
        else:
            yield label, f"{value:,}" if name in ("count", "available", "copies") else str(value)
