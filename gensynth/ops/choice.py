"""Kernel or definition: what an operator runs on given tensors, and why.

`GENSYNTH_OPS` says how to choose, `auto` unless set:

- auto: the kernel where it can run and pays, the definition otherwise;
- reference: the definition, always;
- triton: the kernel, or an error that says why it cannot run.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gensynth.errors import UsageError

MODES = ("auto", "triton", "reference")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST_CAPABILITY = (8, 0)  # Ampere: the first with bfloat16 in its tensor cores

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"  # as Triton reads it when imported

_mode = os.environ.get("GENSYNTH_OPS") or "auto"


def mode() -> str:
    """How operators choose now.

    Raises:
        UsageError: `GENSYNTH_OPS` is none of `MODES`.
    """
    return checked(_mode, "GENSYNTH_OPS")


def checked(name: str, source: str) -> str:
    if name not in MODES:
        raise UsageError(f"{source} must be one of {', '.join(MODES)}, got {name!r}.")
    return name


@contextmanager
def use(name: str) -> Iterator[None]:
    """A block in which all operators of the process choose like `GENSYNTH_OPS=name`.

    Raises:
        UsageError: not one of `MODES`.
    """
    global _mode
    before, _mode = _mode, checked(name, "the mode of gensynth.ops.use")
    try:
        yield
    finally:
        _mode = before


def kernel_chosen(operator: str, refusal: str | None, why_slower: str | None) -> bool:
    """Whether to run the kernel.

    Args:
        operator: name, for the message.
        refusal: why the kernel cannot run; None if it can.
        why_slower: why it would not be faster although it can run; None if it would.

    Raises:
        UsageError: the kernel is demanded and cannot run.
    """
    how = mode()
    if how == "triton" and refusal is not None:
        raise UsageError(
            f"GENSYNTH_OPS=triton, but the kernel of {operator} cannot run: {refusal}. "
            "GENSYNTH_OPS=auto takes the definition there."
        )
    return how == "triton" or (how == "auto" and refusal is None and why_slower is None)


def refusal_of_tensors(*tensors: Tensor) -> str | None:
    """Why no kernel can run on these tensors, which share device and type; None if one can."""
    first = tensors[0]
    if first.dtype not in DTYPES:
        return f"the type is {first.dtype}, not float32, float16 or bfloat16"
    return refusal_of_device(first.device.type, first.device.index)


def refusal_of_device(kind: str, index: int | None) -> str | None:
    """Why no kernel can run on a device; None if one can."""
    if not HAS_TRITON:
        return "Triton is not installed (pip install triton)"
    if kind == "cpu":
        return None if INTERPRETING else "kernels need a CUDA GPU (for tests: TRITON_INTERPRET=1)"
    if kind != "cuda":
        return f"the device is {kind}"
    capability = torch.cuda.get_device_capability(index)
    if capability < OLDEST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below 8.0"
    return None


# What torch.compiler.assume_constant_result does: torch.compile asks once. The decorator itself
# would import the compiler, which takes longer than all else here.
refusal_of_device._dynamo_marked_constant = True  # type: ignore[attr-defined]


def why_slower_on_device(tensor: Tensor) -> str | None:
    """Why a kernel would not be faster on the device of `tensor`; None where it may."""
    return "Triton's interpreter is for tests" if tensor.device.type == "cpu" else None
