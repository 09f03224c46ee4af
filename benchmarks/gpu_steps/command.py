"""The command line of `benchmarks/gpu.py`."""

import argparse
import sys
from pathlib import Path

import torch

from gensynth.errors import GensynthError, UsageError
from gensynth.files import write_text
from gensynth_benchmarks.gpu_steps import STEPS
from gensynth_benchmarks.gpu_steps.common import Bench
from gensynth_benchmarks.gpu_steps.summary import as_markdown, write_tables
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.measuring import (
    ROOT,
    Ceilings,
    ceilings,
    device_name,
    measured_circumstances,
)

TABLES = "tables"
TRIALS = ROOT / "runs" / "gpu-miniature"
ABOUT = """Evidence from a GPU, step by step.

    python benchmarks/gpu.py --list
    python benchmarks/gpu.py models --out results

A command starts no row after --minutes; the same command again measures what is missing. It writes
STEP.json and STEP.md, and prints the tables and what became of the targets. `python
benchmarks/gpu.py tables` puts the tables of docs/speed.md together from such files.
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
        prog="gpu.py", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("step", nargs="?", choices=[*STEPS, TABLES], help="see --list")
    options.add_argument("--list", action="store_true", help="say what the steps are, and end")
    options.add_argument(
        "--out", type=Path, help="folder [benchmarks/results/DEVICE; of a trial runs/gpu-miniature]"
    )
    options.add_argument("--work", type=Path, help="folder for runs of training [runs/gpu]")
    options.add_argument(
        "--data", type=Path, help="folder with cifar10/ and tiny-imagenet-45/ [the hub's]"
    )
    options.add_argument("--minutes", type=float, default=8.0, help="start nothing after this [8]")
    options.add_argument("--retry", action="store_true", help="rows that failed, once more")
    options.add_argument("--commit", help="of the code, where there is no git to ask")
    options.add_argument(
        "--miniature", action="store_true", help="everything tiny, also on a CPU: a trial"
    )
    return options


def run(options: argparse.Namespace) -> None:
    """One command.

    Raises:
        UsageError: no step, no GPU, or results of another device in the folder.
    """
    if options.list:
        for name, step in STEPS.items():
            print(f"{name:14}{(step.__doc__ or '').splitlines()[0]}")
        return
    if options.step is None:
        raise UsageError(f"give a step: {', '.join([*STEPS, TABLES])}. --list says what they are.")
    if options.step == TABLES:
        print(write_tables(ROOT))
        return
    device = current_device()
    if device != "cuda" and not options.miniature:
        raise UsageError("torch finds no GPU here; --miniature tries the step out on a CPU.")
    results = ROOT / "benchmarks" / "results" / device_name(device)
    # A trial's numbers do not belong beside measured ones.
    out = options.out or (TRIALS if options.miniature else results)
    bench = prepare(options, device, out)
    step = STEPS[options.step]
    step.run(bench)
    rows, about = bench.ledger.rows, bench.ledger.about
    for table in (tables := step.tables(rows, about)):
        table.print()
    verdicts = step.verdicts(rows)
    text = as_markdown(options.step, about, tables, verdicts)
    write_text(out / f"{options.step}.md", text)
    print("\n".join(verdicts))
    failed = sum("failed" in row for row in rows)
    if failed:
        print(f"{failed} rows failed or were cut off; --retry measures them again")
    if bench.ledger.left:
        print(f"no time was left for {len(bench.ledger.left)} rows; run the same command again")
    print(f"written to {out}")


def prepare(options: argparse.Namespace, device: str, out: Path) -> Bench:
    """Measures the ceilings and opens the table of a step."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    best = Ceilings(1e10, 1e11) if options.miniature else ceilings(device, dtype)
    about: Row = measured_circumstances(device, best) | {"miniature": options.miniature}
    about["commit"] = options.commit or about["commit"]
    ledger = Ledger(out, options.step, about, options.minutes, options.retry)
    work = options.work or (out / "runs" if options.miniature else ROOT / "runs" / "gpu")
    return Bench(device, best, ledger, out, work, options.data, options.miniature)
