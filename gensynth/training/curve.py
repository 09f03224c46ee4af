"""The loss curve of a run as a picture."""

import json
from pathlib import Path

from matplotlib.figure import Figure

SMOOTHING = 0.9  # share of the running mean that one point keeps


def plot_loss(log: Path, path: Path) -> None:
    """Draws the loss of a `log.jsonl` over the steps, raw and smoothed, as a PNG."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps, losses = [entry["step"] for entry in entries], [entry["loss"] for entry in entries]
    smooth: list[float] = []
    for loss in losses:
        smooth.append(loss if not smooth else SMOOTHING * smooth[-1] + (1 - SMOOTHING) * loss)
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="#9ab", linewidth=1, label="mean of the steps since the last")
    axes.plot(steps, smooth, color="#136", linewidth=2, label="smoothed")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path)
