"""Evidence from a GPU, step by step: `python benchmarks/gpu.py --help`."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; errors that a user can mend end it with one line."""
    from gensynth_benchmarks.gpu_steps.command import main as run

    run(arguments)


if __name__ == "__main__":
    # This folder, which Python puts first when it runs a file in it, has a `kernels.py` and others
    # that libraries would take for packages of these names.
    sys.path.pop(0)
    main()
