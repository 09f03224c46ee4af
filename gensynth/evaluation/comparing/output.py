"""A comparison in the terminal, and as JSON, Markdown and a picture."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gensynth.errors import OutputError
from gensynth.evaluation.comparing.compare import Comparison, Row
from gensynth.evaluation.comparing.compared_runs import Run, of_metric
from gensynth.evaluation.measuring.rounding import with_error
from gensynth.evaluation.report.figures import COLOURS, drawn, panels, shortened
from gensynth.files import replace_file

AXES = {"images": "images seen", "seconds": "seconds of training", "step": "step"}
NOT_RANKED = "Not ranked."
NOTE = (
    "s.e. behind: difference to the best in units of the combined standard error of both. Below 2 "
    "the difference may be chance."
)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """A column for each run; the best of a row is bold and says so."""
    runs = comparison.runs
    console = console or Console(width=max(100, 44 + 28 * len(runs)), highlight=False)
    for sentence in [NOT_RANKED, *comparison.differences] if comparison.differences else []:
        console.print(sentence, markup=False)
    table = Table()
    for name in ("number", *(run.name for run in runs)):
        table.add_column(Text(name), justify="left", overflow="fold")
    for row in comparison.rows:
        styles = ["bold" if row.best == at else "" for at in range(len(runs))]
        cells = [Text(cell(row, at), style) for at, style in enumerate(styles)]
        table.add_row(Text(headed(row)), *cells)
    console.print(table)
    if not comparison.differences:
        console.print(NOTE, markup=False)
    for sentence in comparison.notes:
        console.print(sentence, markup=False)


def cell(row: Row, at: int) -> str:
    """A number with its error, how far it is behind, and "best" or "equal"."""
    score = row.scores[at]
    if score is None:
        return ""
    text = with_error(score.value, score.standard_error)
    apart = row.apart[at]
    if apart is not None:
        text += f", {apart:.1f} s.e. behind"
    if at in row.equal:
        return f"{text}, equal"
    return f"{text}, best" if row.best == at else text


def headed(row: Row) -> str:
    """The name of a number and which way is better."""
    return f"{row.name} {'↓' if better(row) == 'lower' else '↑'}"


def better(row: Row) -> str:
    return next(score.better for score in row.scores if score is not None)


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes comparison.json, comparison.md and comparison.png.

    Raises:
        OutputError: the disk is full or the folder not writable.
    """
    content = json.dumps(without_nan(as_json(comparison)), indent=1)
    contents = {
        "comparison.json": f"{content}\n".encode(),
        "comparison.md": as_markdown(comparison).encode(),
        "comparison.png": as_picture(comparison),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, written in contents.items():
            replace_file(folder / name, written)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write to {folder}: {reason}. Choose another --out.") from error
    return [folder / name for name in contents]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """What was compared, for programs."""
    return {
        "schema": 1,
        "ranked": not comparison.differences,
        "differences": comparison.differences,
        "notes": comparison.notes,
        "runs": [
            {"name": run.name, "conditions": conditions_of(run), "evaluations": run.curve}
            for run in comparison.runs
        ],
        "rows": [
            {
                "name": row.name,
                "better": better(row),
                "best": None if row.best is None else comparison.runs[row.best].name,
                "equal": [comparison.runs[at].name for at in row.equal],
                "scores": [
                    None if score is None else {**asdict(score), "standard_errors_behind": behind}
                    for score, behind in zip(row.scores, row.apart, strict=True)
                ],
            }
            for row in comparison.rows
        ],
    }


def conditions_of(run: Run) -> dict[str, Any]:
    """What the numbers of a run depend on."""
    references = [{"name": one.name, "hashes": sorted(one.hashes)} for one in run.references]
    return {**run.conditions, "reference": references}


def without_nan(tree: Any) -> Any:
    """A tree in which numbers that JSON does not know (of runs that diverged) are null."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def as_markdown(comparison: Comparison) -> str:
    """A table with the best of each row in bold."""
    names = [run.name for run in comparison.runs]
    lines = [["number", *names], ["---"] * (1 + len(names))]
    for row in comparison.rows:
        cells = [cell(row, at) for at in range(len(names))]
        marked = [f"**{text}**" if row.best == at else text for at, text in enumerate(cells)]
        lines.append([headed(row), *marked])
    table = ["| " + " | ".join(text.replace("|", r"\|") for text in line) + " |" for line in lines]
    notes = [NOT_RANKED, *comparison.differences] if comparison.differences else [NOTE]
    return "\n".join([*table, "", *notes, *comparison.notes]) + "\n"


def as_picture(comparison: Comparison) -> bytes:
    """Curves of training runs, and bars with error bars for every number, as PNG."""
    metrics = dict.fromkeys(line["metric"] for run in comparison.runs for line in run.curve)
    draws: list[Callable[[Axes], None]] = [
        partial(draw_curves, comparison, metric, axis) for metric in metrics for axis in AXES
    ]
    draws += [partial(draw_bars, comparison, row) for row in comparison.rows]
    return drawn(partial(panels, draws), "png")


def draw_curves(comparison: Comparison, metric: str, axis: str, axes: Axes) -> None:
    """A number over what was spent for it, with a band of one standard error."""
    floors = []
    for at, run in enumerate(comparison.runs):
        lines = of_metric(run.curve, metric)
        if not lines:
            continue
        where, values = [line[axis] for line in lines], [line["value"] for line in lines]
        errors = [line.get("standard_error") or 0.0 for line in lines]
        colour, both = COLOURS[at % len(COLOURS)], list(zip(values, errors, strict=True))
        axes.plot(where, values, "o-", color=colour, markersize=3, label=shortened(run.name))
        low, high = [v - e for v, e in both], [v + e for v, e in both]
        axes.fill_between(where, low, high, color=colour, alpha=0.2, linewidth=0)
        floors += [line["floor"] for line in lines if line.get("floor")]
    if floors:
        axes.axhline(min(floors), color=COLOURS[6], linestyle="--", label="real images")
    axes.set(xlabel=AXES[axis], ylabel=metric, yscale="log")  # early distances dwarf late ones
    axes.locator_params(axis="x", nbins=5)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend(fontsize=8)


def draw_bars(comparison: Comparison, row: Row, axes: Axes) -> None:
    """A bar for each run, the best one named so, and what real images score."""
    finite = {
        at: score
        for at, score in enumerate(row.scores)
        if score is not None and math.isfinite(score.value)
    }
    for at, score in finite.items():
        error, colour = score.standard_error, COLOURS[at % len(COLOURS)]
        bar = axes.barh([at], [score.value], 0.6, xerr=error, capsize=3, color=colour)
        axes.bar_label(bar, [with_error(score.value, error)], padding=4, fontsize=8)
    axes.margins(x=0.3)  # room for the numbers beside the bars
    floors = [score.floor for score in finite.values() if score.floor]
    if floors:
        axes.axvline(min(floors), color=COLOURS[6], linestyle="--", label="real images")
        axes.legend(fontsize=8)
    names = [shortened(run.name) for run in comparison.runs]
    names = [f"{name}\nbest" if row.best == at else name for at, name in enumerate(names)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first run on top
    axes.grid(visible=False, axis="y")
    axes.set_title(headed(row).replace("$", r"\$"), fontsize=10)
