"""The command line of `benchmarks/distill.py`."""

import argparse
import sys
from pathlib import Path

from PIL import Image

from gensynth.data.tables import BUNDLED_SETS
from gensynth.errors import GensynthError, UsageError
from gensynth.metrics.extractors.scorer import EmojiScorer
from gensynth_benchmarks.distill_runs.students import Students, measure, picture
from gensynth_benchmarks.distill_runs.table import (
    CURVE,
    NAME,
    ROWS,
    SHEET,
    TITLES,
    falls,
    table,
    write_curve,
    write_tables,
)
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.measuring import ROOT, circumstances, device_name, kernels_digest
from gensynth_benchmarks.text_runs.pictures import sheet
from gensynth_benchmarks.text_runs.recipes import Trial
from gensynth_benchmarks.text_runs.rows import picture as picture_of_texts
from gensynth_benchmarks.text_runs.rows import write_real

DAY = 24 * 60.0
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
    try:
        run(parser().parse_args(arguments))
    except GensynthError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="distill.py", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, help="folder [benchmarks/results/DEVICE]")
    options.add_argument(
        "--work", type=Path, help="folder of benchmarks/text.py for latents and runs [runs/text]"
    )
    options.add_argument(
        "--data",
        type=Path,
        default=BUNDLED_SETS["emoji"],
        help="folder with train.parquet and test.parquet [the emoji that come along]",
    )
    options.add_argument("--rows", nargs="+", choices=ROWS, help="some of them [all]")
    options.add_argument("--steps", type=int, help="of distilling [the recipes']")
    options.add_argument("--teacher-steps", type=int, help="that the teacher was trained [its own]")
    options.add_argument("--minutes", type=float, default=DAY, help="stop after these [a day]")
    options.add_argument("--table", action="store_true", help="the table of the results there are")
    options.add_argument("--miniature", action="store_true", help="as of text.py: a trial")
    return options


def run(options: argparse.Namespace) -> None:
    """One command.

    Raises:
        UsageError: a trial without --out, or a teacher that is not trained yet.
        InputError: there are no such data, or no scorer.
    """
    if options.table:
        print(write_tables(ROOT))
        return
    if options.miniature and options.out is None:
        raise UsageError("give a trial an --out; its numbers do not belong beside measured ones.")
    device = current_device()
    out = options.out or ROOT / "benchmarks" / "results" / device_name(device)
    work = options.work or (out / "runs" if options.miniature else ROOT / "runs" / "text")
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
    strips = {}
    for title, file in files.items():
        with Image.open(out / file) as opened:
            strips[title] = opened.convert("RGB")
    sheet(strips, prompts).save(out / SHEET)
