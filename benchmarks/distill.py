"""Linear attention learnt from a softmax teacher: `python benchmarks/distill.py --help`."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; errors that a user can mend end it with one line."""
    from gensynth_benchmarks.distill_runs.command import main as run

    run(arguments)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files libraries would take for packages; see gpu.py
    main()
