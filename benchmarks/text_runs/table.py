"""The table of the rows, what the ablation says, and their place in docs/text.md."""

from collections.abc import Sequence
from pathlib import Path

from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import Table, number
from gensynth_benchmarks.text_runs.page import Part, image, said_of
from gensynth_benchmarks.text_runs.recipes import ROWS, TITLES
from gensynth_benchmarks.text_runs.rows import REAL

NAME = "text"  # of the file of rows
SHEET = "text_prompts.png"
COLUMNS = [
    *("model", "M parameters", "M multiply-adds", "images/s in training", "loss"),
    *("FD(lite0-64)", "Retrieval@1", "Retrieval@5", "Style@1"),
]


def best_first(rows: Sequence[Row]) -> list[Row]:
    """The rows that are measured, by their distance."""
    return sorted((row for row in rows if "distance" in row), key=lambda row: row["distance"])


def table(rows: Sequence[Row], about: Row) -> Table:
    """The best first, then real pictures, then what is not measured."""
    done = best_first(rows)
    lines = [
        [
            TITLES[row["row"]],
            number(row["parameters"] / 1e6),
            number(row["multiply_adds"] / 1e6, 0),
            number(row["images_per_second"], 0),
            number(row["loss"], 4),
            number(row["distance"], 1) + error_of(row),
            *(percent(row.get(key)) for key in ("retrieval_1", "retrieval_5", "style_1")),
        ]
        for row in done
    ]
    if done:
        known = done[0]
        real = [percent(known.get(key + REAL)) for key in ("retrieval_1", "retrieval_5", "style_1")]
        lines.append(["real pictures", "", "", "", "", number(known["floor"], 1), *real])
    there = {row["row"]: row for row in rows}
    for name in ROWS:
        if "distance" not in there.get(name, {}):
            reason = there.get(name, {}).get("failed", "not measured yet")
            lines.append([TITLES[name], reason, *[""] * (len(COLUMNS) - 2)])
    pictures = f"{done[0]['samples']} held-out prompts" if done else "held-out prompts"
    title = f"Emoji at 64x64, {about['steps']:,} steps of {about['batch_size']}, {pictures}"
    return Table(title, COLUMNS, lines)


def error_of(row: Row) -> str:
    """Its standard error; nothing where too few samples were drawn to know it."""
    return "" if row["standard_error"] is None else f" ± {row['standard_error']:.1f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def ablation(rows: Sequence[Row]) -> list[str]:
    """What looking at the words adds to the summary in the modulation; nothing if not measured."""
    there = {row["row"]: row for row in best_first(rows)}
    if not {"dico", "dico-pooled"} <= there.keys():
        return []
    both, pooled = there["dico"], there["dico-pooled"]
    lines = [
        "Pooled and cross-attention against pooled only (DiCo, equal parameters and steps): "
        + gain("FD", pooled["distance"] - both["distance"], errors(both, pooled), "lower", "{:.1f}")
    ]
    for key, name in (("retrieval_1", "Retrieval@1"), ("retrieval_5", "Retrieval@5")):
        if key in both and key in pooled:
            sure = sum(row[key] * (1 - row[key]) / row["samples"] for row in (both, pooled)) ** 0.5
            lines.append(gain(name, both[key] - pooled[key], sure, "higher", "{:.1%}"))
    return ["; ".join(lines) + ". One seed each, so a further run may differ by more."]


def errors(*rows: Row) -> float | None:
    """Of a difference of distances; none where that of one is not known."""
    found = [row["standard_error"] for row in rows]
    return None if None in found else float(sum(error**2 for error in found) ** 0.5)


def gain(name: str, gained: float, error: float | None, better: str, form: str) -> str:
    """How much better a number is, and whether that is more than chance."""
    other = {"lower": "higher", "higher": "lower"}[better]
    said = f"{name} {better if gained >= 0 else other} by {form.format(abs(gained))}"
    if error is None:
        return f"{said} (of unknown error)"
    sure = "more" if abs(gained) > 2 * error else "not more"
    return f"{said}, {sure} than two standard errors ({form.format(2 * error)})"


def paragraphs(folder: Path, content: Row) -> list[str]:
    """What the page says of one folder of results."""
    rows = content["rows"]
    shown = [said_of(content), table(rows, content).markdown().strip(), *ablation(rows)]
    return shown + image(folder, SHEET, "the same prompts by all")


PART = Part(
    name=NAME,
    page="docs/text.md",
    begin="<!-- From here: python benchmarks/text.py --table -->",
    end="<!-- To here. -->",
    paragraphs=paragraphs,
)
