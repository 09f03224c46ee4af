"""Plots of numbers with their errors, as SVG or PNG."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gensynth.evaluation.measuring.class_distances import ClassDistance

# Paul Tol's "bright" scheme, told apart by colour-blind readers (SRON/EPS/TN/09-002).
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#888888")
INK = {"light": "#1b1f23", "dark": "#e6e8ea"}
LONGEST_NAME = 24


def drawn(draw: Callable[[], Figure], kind: str = "svg", theme: str = "light") -> bytes:
    """A figure as a file; an SVG has no background and its letters are shapes."""
    ink = INK[theme]
    settings: Any = {
        "font.size": 10,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "grid.color": ink,
        "grid.alpha": 0.15,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.hashsalt": "gensynth",  # the same figure gives the same file
    }
    stream = io.BytesIO()
    options: dict[str, Any] = {"dpi": 150}
    if kind == "svg":
        # no block of facts about the file, such as its date
        facts = ("Creator", "Date", "Format", "Type")
        options = {"transparent": True, "metadata": dict.fromkeys(facts)}
    with matplotlib.rc_context(settings):
        draw().savefig(stream, format=kind, **options)
    return stream.getvalue()


def trade_off(quality: dict[str, Any], variety: dict[str, Any]) -> Figure:
    """Scores of quality over scores of variety: up and to the right is better.

    Args:
        quality, variety: entries of a report's scores. Where both are shares, lines join points
            with the same harmonic mean.
    """
    figure = Figure(figsize=(3.7, 3.4), layout="constrained")
    axes = figure.subplots()
    across, up = variety["value"], quality["value"]
    if quality["key"] == "precision":
        for mean in (0.2, 0.4, 0.6, 0.8):
            # From where precision is 1; p follows from mean = 2 p r / (p + r).
            recall = np.linspace(mean / (2 - mean), 1, 100)
            level = mean * recall / (2 * recall - mean)
            axes.plot(recall, level, color=COLOURS[6], linewidth=0.8, alpha=0.6)
            axes.annotate(f"{mean}", (1, level[-1]), color=COLOURS[6], fontsize=8, va="bottom")
    axes.errorbar(
        [across],
        [up],
        xerr=variety["standard_error"],
        yerr=quality["standard_error"],
        fmt="o",
        markersize=7,
        capsize=3,
        color=COLOURS[0],
    )
    axes.set(xlim=(0, 1.06), ylim=(0, max(1.0, up) * 1.06))
    axes.set(xlabel=f"{variety['key']} (variety)", ylabel=f"{quality['key']} (quality)")
    return figure


def class_bars(classes: Sequence[ClassDistance], name: str) -> Figure:
    """A bar for each class, and a mark for what real images of the class score."""
    figure = Figure(figsize=(5.2, 1.1 + 0.24 * len(classes)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(classes))
    axes.barh(rows, [c.value for c in classes], 0.7, color=COLOURS[0], label="samples")
    marked = [(c.floor, row) for row, c in enumerate(classes) if c.floor is not None]
    if marked:
        floors, at = zip(*marked, strict=True)
        axes.plot(floors, at, "|", color=COLOURS[1], markersize=13, mew=3, label="real images")
    axes.set_yticks(rows, [shortened(c.name) for c in classes])
    axes.set_ylim(len(classes) - 0.4, -0.6)  # the first class on top
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=name, xlim=(0, None))
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def panels(draws: Sequence[Callable[[Axes], None]], columns: int = 3) -> Figure:
    """Plots beside and below each other."""
    columns = min(columns, len(draws))
    rows = -(-len(draws) // columns)  # rounded up
    figure = Figure(figsize=(4.4 * columns, 3.0 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for draw, axes in zip(draws, places, strict=False):
        draw(axes)
    for axes in list(places)[len(draws) :]:
        axes.set_visible(False)
    return figure


def shortened(name: str) -> str:
    """A name that leaves room for a plot; signs that matplotlib takes for formulas are escaped."""
    short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return short.replace("$", r"\$")
