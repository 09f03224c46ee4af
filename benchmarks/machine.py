"""What every benchmark says of the machine it ran on."""

import platform
import re
import resource
from pathlib import Path

import torch


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronize(device: str) -> None:
    """Waits until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_gib(device: str) -> float:
    """Peak memory so far: of the device, or of this process on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status")
    if status.is_file():  # of this program: what is left of the one that started it does not count
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if peak:
            return int(peak[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def fresh_peak_gib() -> float:
    """The memory of this process now, from where on `peak_gib("cpu")` counts anew.

    Raises:
        RuntimeError: a system other than Linux, which cannot forget a peak.
    """
    asked = Path("/proc/self/clear_refs")
    if not asked.is_file():
        raise RuntimeError("the peak of a part of a process is only known on Linux")
    asked.write_text("5")  # proc(5): the peak becomes what is resident
    return peak_gib("cpu")


def print_machine() -> None:
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; "
        "on a CPU the peak is that of the process, libraries included"
    )
