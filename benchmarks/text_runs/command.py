"""The command line of `benchmarks/text.py`."""

import argparse
from pathlib import Path

from gensynth.errors import UsageError
from gensynth.metrics.extractors.scorer import EmojiScorer
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.measuring import ROOT, circumstances, kernels_digest
from gensynth_benchmarks.text_runs.options import folders, run_command, shared_options
from gensynth_benchmarks.text_runs.page import said_of
from gensynth_benchmarks.text_runs.pictures import write_sheet_of
from gensynth_benchmarks.text_runs.recipes import ROWS, TITLES, Trial
from gensynth_benchmarks.text_runs.rows import measure, picture, write_real
from gensynth_benchmarks.text_runs.table import (
    NAME,
    PART,
    SHEET,
    ablation,
    best_first,
    table,
)

ABOUT = """Backbones of texts at equal parameters and budget, on emoji at 64x64.

    python benchmarks/text.py
    python benchmarks/text.py --table

Each row is trained as `gensynth train` does, draws the held-out captions, and is kept as soon as it
is done. A command that was stopped or killed goes on from the newest checkpoint when it is given
again. --table prints what the committed results say, and writes it into docs/text.md.
"""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; errors that a user can mend end it with one line."""
    run_command(run, parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    options = shared_options("text.py", ABOUT, list(ROWS))
    options.add_argument("--steps", type=int, help="of training, of all rows [the recipe's]")
    return options


def run(options: argparse.Namespace) -> None:
    """One command.

    Raises:
        UsageError: a trial without --out, or rows of another recipe in the folder.
        InputError: there are no such data, or no scorer.
    """
    if options.table:
        print(PART.write(ROOT))
        return
    device = current_device()
    out, work = folders(options, device)
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
    files = {title: out / picture(name) for title, name in named.items()}
    write_sheet_of(files, prompts, out / SHEET)
