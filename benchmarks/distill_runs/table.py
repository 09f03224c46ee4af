"""The table of teacher and students, their curve, and its place in docs/linearize.md."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from gensynth.files import write_text
from gensynth_benchmarks.distill_runs.students import AFTER, BEFORE, CONFIGS, TEACHER
from gensynth_benchmarks.gpu_steps.summary import between_marks
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import Table, number
from gensynth_benchmarks.text_runs.rows import REAL
from gensynth_benchmarks.text_runs.table import error_of, percent, said_of

NAME = "distill"  # of the file of rows
SHEET, CURVE = "distill_prompts.png", "distill_curve.png"
PAGE = "docs/linearize.md"
BEGIN = "<!-- From here: python benchmarks/distill.py --table -->"
END = "<!-- To here: distill.py. -->"
NOTHING = "Not measured yet.\n"
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


def measured(results: Path) -> Iterator[tuple[Path, Row]]:
    """The folder and the content of each file of rows."""
    for path in sorted(results.glob(f"*/{NAME}.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not content["miniature"]:
            yield path.parent, content


def text_of(results: Path) -> str:
    """That part of the page."""
    parts: list[str] = []
    for folder, content in measured(results):
        rows = content["rows"]
        parts += [said_of(content), table(rows, content).markdown().strip(), *falls(rows)]
        for file, what in ((CURVE, "the parts of the loss"), (SHEET, "the same prompts by all")):
            if (folder / file).is_file():
                parts.append(f"![{what}](../benchmarks/results/{folder.name}/{file})")
    return "\n\n".join(parts) + "\n" if parts else NOTHING


def with_results(page: str, results: Path) -> str:
    """The text of the page with that part made anew.

    Raises:
        InputError: it has no such part.
    """
    return between_marks(page, PAGE, (BEGIN, END), text_of(results))


def write_tables(root: Path) -> str:
    """Makes that part of the page anew, and gives it."""
    path, results = root / PAGE, root / "benchmarks" / "results"
    write_text(path, with_results(path.read_text(encoding="utf-8"), results))
    return text_of(results)
