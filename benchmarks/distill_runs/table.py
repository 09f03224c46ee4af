"""The table of teacher and students, their curve, and its place in docs/linearize.md."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from gensynth_benchmarks.distill_runs.students import AFTER, BEFORE, CONFIGS, TEACHER
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import Table, number
from gensynth_benchmarks.text_runs.page import Part, image, said_of
from gensynth_benchmarks.text_runs.rows import REAL
from gensynth_benchmarks.text_runs.table import error_of, percent

NAME = "distill"  # of the file of rows
SHEET, CURVE = "distill_prompts.png", "distill_curve.png"
COLUMNS = ["model", "FD(lite0-64)", "of the teacher's", "Retrieval@1", "Retrieval@5", "Style@1"]
ROWS = [TEACHER, *(f"{method} {when}" for method in CONFIGS for when in (BEFORE, AFTER))]
TITLES = {
    TEACHER: "teacher (softmax)",
    "linfusion before": "LinFusion, before",
    "linfusion after": "LinFusion, distilled",
    "clear before": "CLEAR, before",
    "clear after": "CLEAR, distilled",
}
LAST = 5  # entries of a log whose mean is told; each is a mean of some steps itself


def table(rows: Sequence[Row], about: Row) -> Table:
    """Teacher, each student before and after, real pictures; then what is not measured."""
    there = {row["row"]: row for row in rows}
    teacher = there.get(TEACHER, {})
    lines = []
    for name in ROWS:
        row = there.get(name, {})
        if "distance" not in row:
            reason = row.get("failed", "not measured yet")
            lines.append([TITLES[name], reason, *[""] * (len(COLUMNS) - 2)])
            continue
        share = row["distance"] / teacher["distance"] if "distance" in teacher else None
        lines.append(
            [
                TITLES[name],
                number(row["distance"], 1) + error_of(row),
                percent(share),
                *(percent(row.get(key)) for key in ("retrieval_1", "retrieval_5", "style_1")),
            ]
        )
    if "distance" in teacher:
        keys = ("retrieval_1", "retrieval_5", "style_1")
        real = [percent(teacher.get(key + REAL)) for key in keys]
        lines.append(["real pictures", number(teacher["floor"], 1), "", *real])
    samples = teacher.get("samples")
    title = f"{samples} held-out prompts" if samples else "Held-out prompts"
    return Table(f"Emoji at 64x64, {title}", COLUMNS, lines)


def falls(rows: Sequence[Row]) -> list[str]:
    """How far the losses of the attentions and of the output fell, a sentence for each student."""
    said = []
    for row in rows:
        if "parts" not in row:
            continue
        parts = []
        for part, what in (("attention", "attentions"), ("output", "outputs")):
            values = [value for _, value in row["parts"][part]]
            first, last = values[0], sum(values[-LAST:]) / len(values[-LAST:])
            parts.append(f"of the {what} from {first:.4g} to {last:.4g} ({first / last:.1f} times)")
        said.append(
            f"{TITLES[row['row']]}, {row['steps']} steps: the squared error {' and '.join(parts)}, "
            f"the first entry of the log and the mean of the last {LAST}."
        )
    return said


def write_curve(rows: Sequence[Row], path: Path) -> None:
    """The parts of the loss over the steps, a plot for each student."""
    learnt = [row for row in rows if "parts" in row]
    if not learnt:
        return
    figure = Figure(figsize=(5 * len(learnt), 3.5), dpi=100, layout="constrained")
    for axes, row in zip(figure.subplots(1, len(learnt), squeeze=False)[0], learnt, strict=True):
        for part, points in row["parts"].items():
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, label=part, linewidth=1)
        axes.set(title=TITLES[row["row"]], xlabel="step", ylabel="squared error", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    figure.savefig(path)


def paragraphs(folder: Path, content: Row) -> list[str]:
    """What the page says of one folder of results."""
    rows = content["rows"]
    shown = [said_of(content), table(rows, content).markdown().strip(), *falls(rows)]
    shown += image(folder, CURVE, "the parts of the loss")
    return shown + image(folder, SHEET, "the same prompts by all")


PART = Part(
    name=NAME,
    page="docs/linearize.md",
    begin="<!-- From here: python benchmarks/distill.py --table -->",
    end="<!-- To here: distill.py. -->",
    paragraphs=paragraphs,
)
