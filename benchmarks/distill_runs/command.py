"""The command line of `benchmarks/distill.py`."""

import argparse
import sys
from pathlib import Path

from gensynth.metrics.extractors.scorer import EmojiScorer
from gensynth_benchmarks.distill_runs.students import Students, measure, picture
from gensynth_benchmarks.distill_runs.table import (
    CURVE,
    NAME,
    PART,
    ROWS,
    SHEET,
    TITLES,
    falls,
    table,
    write_curve,
)
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.measuring import ROOT, circumstances, kernels_digest
from gensynth_benchmarks.text_runs.options import folders, run_command, shared_options
from gensynth_benchmarks.text_runs.pictures import write_sheet_of
from gensynth_benchmarks.text_runs.recipes import Trial
from gensynth_benchmarks.text_runs.rows import picture as picture_of_texts
from gensynth_benchmarks.text_runs.rows import write_real

ABOUT = """Linear attention that learns from a softmax teacher, on emoji at 64x64.

    python benchmarks/text.py --rows dit-softmax       # the teacher
    python benchmarks/distill.py
    python benchmarks/distill.py --table

Students are distilled as configs/linearize/emoji_*.yaml say. Teacher and students, each before and
after, draw the held-out captions; rows are kept as soon as they are done, and a command that was
stopped goes on. --table prints what the committed results say, and writes it into the page
docs/linearize.md.
"""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; errors that a user can mend end it with one line."""
    run_command(run, parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    options = shared_options("distill.py", ABOUT, ROWS)
    options.add_argument("--steps", type=int, help="of distilling [the recipes']")
    options.add_argument("--teacher-steps", type=int, help="that the teacher was trained [its own]")
    return options


def run(options: argparse.Namespace) -> None:
    """One command.

    Raises:
        UsageError: a trial without --out, or a teacher that is not trained yet.
        InputError: there are no such data, or no scorer.
    """
    if options.table:
        print(PART.write(ROOT))
        return
    device = current_device()
    out, work = folders(options, device)
    trial = Trial(options.data, work, options.teacher_steps, options.miniature)
    students = Students(trial, trial.fingerprint(), options.steps)
    print(f"teacher: {students.teacher}", file=sys.stderr)  # refuses one that is not there
    EmojiScorer()  # without it no row could be measured
    about: Row = {
        **circumstances(device),
        "kernels": kernels_digest(device),
        "miniature": options.miniature,
    }
    ledger = Ledger(out, NAME, about, options.minutes, retry=True)
    prompts = write_real(trial, out)
    for name in options.rows or ROWS:
        measure(students, name, ledger)
        write_pictures(ledger.rows, prompts, out)
    print(table(ledger.rows, about).markdown())
    print("\n".join(falls(ledger.rows)))
    if ledger.left:
        print(f"no time was left for {len(ledger.left)} rows; run the same command again")
    print(f"written to {out}")


def write_pictures(rows: list[Row], prompts: list[str], out: Path) -> None:
    """The curve, and one picture of the rows that are done, the true pictures first."""
    write_curve(rows, out / CURVE)
    done = {row["row"] for row in rows if "distance" in row}
    files = {"the held-out picture": picture_of_texts("real")}
    files |= {TITLES[name]: picture(name) for name in ROWS if name in done}
    write_sheet_of({title: out / file for title, file in files.items()}, prompts, out / SHEET)
