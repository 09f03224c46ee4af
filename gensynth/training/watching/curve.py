"""The curves of a run as pictures."""

import io
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gensynth.files import replace_file

SMOOTHING = 0.9  # share of the running mean that one point keeps


def plot_loss(log: Path, path: Path) -> None:
    """Draws the loss of a `log.jsonl` over the steps, raw and smoothed, as a PNG."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps, losses = [entry["step"] for entry in entries], [entry["loss"] for entry in entries]
    smooth: list[float] = []
    for loss in losses:
        smooth.append(loss if not smooth else SMOOTHING * smooth[-1] + (1 - SMOOTHING) * loss)
    # Without pyplot, which keeps global state and looks for a display.
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="#9ab", linewidth=1, label="mean of the steps since the last")
    axes.plot(steps, smooth, color="#136", linewidth=2, label="smoothed")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path)


def plot_evaluations(entries: list[dict[str, Any]], path: Path) -> None:
    """Draws the values of some lines of one `evaluations.jsonl` over the steps, as a PNG.

    With what real images score, and a ring around the best.
    """
    steps, values = [entry["step"] for entry in entries], [entry["value"] for entry in entries]
    errors = [entry["standard_error"] or 0.0 for entry in entries]
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    label = f"{entries[-1]['num_samples']:,} pictures, ± standard error"
    axes.errorbar(steps, values, errors, color="#136", marker=".", capsize=2, label=label)
    best = min(entries, key=lambda entry: entry["value"])
    where, label = ([best["step"]], [best["value"]]), f"best, step {best['step']}"
    axes.scatter(*where, facecolors="none", edgecolors="#a31", s=90, zorder=3, label=label)
    if entries[-1]["floor"] is not None:
        axes.axhline(entries[-1]["floor"], color="#9ab", linestyle="--", label="real images")
    axes.set(xlabel="step", ylabel=entries[-1]["metric"], yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png")
    replace_file(path, content.getvalue())
