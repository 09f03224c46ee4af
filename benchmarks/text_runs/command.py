"""The command line of `benchmarks/text.py`."""

import argparse
import sys
from pathlib import Path

from PIL import Image

from gensynth.data.tables import BUNDLED_SETS
from gensynth.errors import GensynthError, UsageError
from gensynth.metrics.extractors.scorer import EmojiScorer
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.measuring import ROOT, circumstances, device_name, kernels_digest
from gensynth_benchmarks.text_runs.pictures import sheet
from gensynth_benchmarks.text_runs.recipes import ROWS, TITLES, Trial
from gensynth_benchmarks.text_runs.rows import measure, picture, write_real
from gensynth_benchmarks.text_runs.table import (
    NAME,
    SHEET,
    ablation,
    best_first,
    said_of,
    table,
    write_tables,
)

DAY = 24 * 60.0
ABOUT = """Backbones of texts at equal parameters and budget, on emoji at 64x64.

    python benchmarks/text.py
    python benchmarks/text.py --table

Each row is trained as `gensynth train` does, draws the held-out captions, and is kept as soon as it
is done. A command that was stopped or killed goes on from the newest checkpoint when it is given
again. --table prints what the committed results say, and writes it into docs/text.md.
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
        prog="text.py", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, help="folder [benchmarks/results/DEVICE]")
    options.add_argument("--work", type=Path, help="folder for latents and runs [runs/text]")
    options.add_argument(
        "--data",
        type=Path,
        default=BUNDLED_SETS["emoji"],
        help="folder with train.parquet and test.parquet [the emoji that come along]",
    )
    options.add_argument("--rows", nargs="+", choices=list(ROWS), help="some of them [all]")
    options.add_argument("--steps", type=int, help="of training, of all rows [the recipe's]")
    options.add_argument("--minutes", type=float, default=DAY, help="stop after these [a day]")
    options.add_argument("--table", action="store_true", help="the table of the results there are")
    options.add_argument(
        "--miniature", action="store_true", help="all but the models tiny: a trial"
    )
    return options


def run(options: argparse.Namespace) -> None:
    """One command.

    Raises:
        UsageError: a trial without --out, or rows of another recipe in the folder.
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
    trial = Trial(options.data, work, options.steps, options.miniature)
    fingerprint = trial.fingerprint()
    about = described(trial, device)
    EmojiScorer()  # without it no row could be measured
    # What did not end well is tried again, or gone on with.
    ledger = Ledger(out, NAME, about, options.minutes, retry=True)
    check_same(ledger, trial, fingerprint)
    prompts = write_real(trial, out)
    for name in options.rows or ROWS:
        measure(trial, name, ledger, fingerprint)
        write_sheet(ledger.rows, prompts, out)
    print(said_of(about))
    table(ledger.rows, about).print()
    print("\n".join(ablation(ledger.rows)))
    if ledger.left:
        print(f"no time was left for {len(ledger.left)} rows; run the same command again")
    print(f"written to {out}")


def described(trial: Trial, device: str) -> Row:
    """When, where, with what, and what all rows share."""
    training = trial.experiment("dico").training
    return {
        **circumstances(device),
        "kernels": kernels_digest(device),
        "miniature": trial.miniature,
        "steps": training.steps,
        "batch_size": training.batch_size,
    }


def check_same(ledger: Ledger, trial: Trial, fingerprint: str) -> None:
    """
    Raises:
        UsageError: rows of other steps, data or settings, which do not belong into one table.
    """
    for row in ledger.rows:
        if row["recipe"] != trial.recipe(row["row"], fingerprint):
            raise UsageError(
                f"{ledger.path} holds {row['row']} with other steps, data or settings; give "
                "another --out."
            )


def write_sheet(rows: list[Row], prompts: list[str], out: Path) -> None:
    """Writes one picture of the rows that are done, the true pictures first."""
    named = {"the held-out picture": "real"}
    named |= {TITLES[row["row"]]: row["row"] for row in best_first(rows)}
    strips = {}
    for title, name in named.items():
        with Image.open(out / picture(name)) as opened:
            strips[title] = opened.convert("RGB")
    sheet(strips, prompts).save(out / SHEET)
