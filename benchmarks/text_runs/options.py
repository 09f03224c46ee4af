"""What the command lines of the benchmarks of emoji have in common."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gensynth.data.tables import BUNDLED_SETS
from gensynth.errors import GensynthError, UsageError
from gensynth_benchmarks.measuring import ROOT, device_name

DAY = 24 * 60.0


def run_command(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Runs a command; errors that a user can mend end it with one line."""
    try:
        run(options)
    except GensynthError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def shared_options(prog: str, about: str, rows: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with what both have."""
    options = argparse.ArgumentParser(
        prog=prog, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, help="folder [benchmarks/results/DEVICE]")
    options.add_argument(
        "--work", type=Path, help="folder of text.py for latents and runs [runs/text]"
    )
    options.add_argument(
        "--data",
        type=Path,
        default=BUNDLED_SETS["emoji"],
        help="folder with train.parquet and test.parquet [the emoji that come along]",
    )
    options.add_argument("--rows", nargs="+", choices=rows, help="some of them [all]")
    options.add_argument("--minutes", type=float, default=DAY, help="stop after these [a day]")
    options.add_argument("--table", action="store_true", help="the table of the results there are")
    options.add_argument(
        "--miniature", action="store_true", help="all but the models tiny: a trial"
    )
    return options


def folders(options: argparse.Namespace, device: str) -> tuple[Path, Path]:
    """Where results go, and where latents and runs are.

    Raises:
        UsageError: a trial without --out.
    """
    if options.miniature and options.out is None:
        raise UsageError("give a trial an --out; its numbers do not belong beside measured ones.")
    out = options.out or ROOT / "benchmarks" / "results" / device_name(device)
    return out, options.work or (out / "runs" if options.miniature else ROOT / "runs" / "text")
