"""The operators by name: what tuning, the compile report, benchmarks and `gensynth doctor` ask."""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor

from gensynth.errors import UsageError
from gensynth.ops.choice import mode, use
from gensynth.ops.launches import Launch, load_tuned
from gensynth.ops.specimens import Specimen


@dataclass(frozen=True)
class Operator:
    """One folder of `gensynth.ops`, read when asked."""

    name: str

    def _module(self, part: str = "") -> ModuleType:
        return import_module(f"gensynth.ops.{self.name}" + (f".{part}" if part else ""))

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The operator's public function."""
        return getattr(self._module(), self.name)(*args, **keywords)

    def refusal(self, *args: Any, **keywords: Any) -> str | None:
        """Why the kernel cannot run on these arguments; None if it can."""
        return self._module().refusal(*args, **keywords)

    def why_slower(self, *args: Any, **keywords: Any) -> str | None:
        """Why the kernel would not be faster on these arguments; None if it would."""
        return self._module().why_slower(*args, **keywords)

    def launches(self) -> dict[str, Launch]:
        """The shipped launches by key."""
        return self._module("launches").LAUNCHES

    def tuned(self) -> dict[str, Launch]:
        """The launches that were tuned for this GPU by key; {} without a GPU."""
        return load_tuned().get(self.name, {})

    def candidates(self, key: str) -> list[Launch]:
        """Launches worth measuring for a key."""
        return self._module("launches").candidates(key)

    def specimens(self) -> tuple[Specimen, ...]:
        """Calls that use every launch."""
        return self._module("specimens").SPECIMENS


NAMES = ("linear_attention", "local_attention", "dwconv_gelu_pool")
OPERATORS = {name: Operator(name) for name in NAMES}


def explain(name: str, *args: Any, **keywords: Any) -> str:
    """What an operator runs on these arguments, and why: "kernel", or "definition: the reason".

    Neither of them is run.

    Raises:
        UsageError: no operator has that name, or it would refuse the arguments.
    """
    if name not in OPERATORS:
        raise UsageError(f"unknown operator {name!r}; known: {', '.join(OPERATORS)}.")
    # The definition on meta tensors: it refuses what a call would, and computes nothing.
    with use("reference"):
        OPERATORS[name](
            *map(without_data, args), **{k: without_data(v) for k, v in keywords.items()}
        )
    refusal = OPERATORS[name].refusal(*args, **keywords)
    how = mode()
    if how == "reference":
        return "definition: the mode is reference"
    if how == "triton":
        return "kernel" if refusal is None else f"error: GENSYNTH_OPS=triton, but {refusal}"
    reason = refusal or OPERATORS[name].why_slower(*args, **keywords)
    return "kernel" if reason is None else f"definition: {reason}"


def without_data(value: Any) -> Any:
    """A tensor's shape and type; anything else as it is."""
    return value.to("meta") if isinstance(value, Tensor) else value
