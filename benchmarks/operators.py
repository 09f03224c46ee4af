"""`gensynth bench ops`: Table A on a GPU, Table E on a CPU."""

from pathlib import Path

import torch

from gensynth.errors import UsageError
from gensynth_benchmarks.machine import device as current_device
from gensynth_benchmarks.machine import print_machine
from gensynth_benchmarks.measuring import device_name


def main(device: str | None, out: Path | None, seconds: float, minutes: float) -> None:
    """Prints the table of a device and writes it to `out`.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    device = device or current_device()
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; --device cpu counts without one.")
    out = out or Path("benchmarks") / "results" / device_name(device)
    if device == "cuda":
        from gensynth_benchmarks.kernels import main as run

        run(device, out, minutes)
    else:
        from gensynth_benchmarks.cpu_table import main as count

        count(out, seconds)
    print_machine()
    print(f"written to {out}")
