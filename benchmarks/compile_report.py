"""What the kernels become on a GPU, without one: compiled ahead of time for sm_80 and sm_90.

Every shipped launch of every operator is compiled by Triton with the ptxas of its wheel, and the
machine code is read: registers, spills, shared memory, tensor-core instructions, instructions. The
calls to compile come from the operators' specimens, whose launches are recorded instead of run.
`gensynth bench compile` prints the table.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from gensynth.errors import UsageError
from gensynth.ops import choice
from gensynth.ops.operators import OPERATORS
from gensynth_benchmarks.compile_tables import print_table
from gensynth_benchmarks.compiled import Compiled
from gensynth_benchmarks.machine_code import instruction, longest_inner_loop, tool

TARGETS = (80, 90)
# Per thread, and bytes per block (CUDA C++ Programming Guide, compute capabilities).
MOST_REGISTERS = 255
MOST_SHARED = {80: 163 * 1024, 90: 227 * 1024}
# Small tiles take a warp's instruction on sm_90 too, where larger ones take a warp group's.
TENSOR_CORE = {80: ("HMMA",), 90: ("HGMMA", "HMMA")}
POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}


@dataclass(frozen=True)
class Call:
    """One launch of a kernel as Triton compiles it."""

    operator: str
    specimen: str
    module: str
    kernel: str
    arguments: tuple[tuple[str, str], ...]  # name and type, in order
    constants: tuple[tuple[str, Any], ...]
    divisible: tuple[str, ...]  # arguments known to be multiples of 16
    options: tuple[tuple[str, int], ...]

    @property
    def code(self) -> tuple[object, ...]:
        """What the machine code depends on."""
        names = (self.module, self.kernel, self.arguments, self.constants)
        return (*names, self.divisible, self.options)


def main() -> list[Compiled]:
    """Compiles everything and prints the table."""
    rows = report()
    print_table(rows)
    return rows


def report(operators: Sequence[str] = tuple(OPERATORS)) -> list[Compiled]:
    """Every shipped launch of these operators on every target.

    Raises:
        UsageError: under TRITON_INTERPRET=1, or without Triton.
    """
    if choice.INTERPRETING or not choice.HAS_TRITON:
        raise UsageError("the compile report needs Triton, and TRITON_INTERPRET not to be set.")
    calls = unique(call for operator in operators for call in record(operator))
    tasks = [(call, target) for call in calls for target in TARGETS]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        return list(pool.map(compile_call, *zip(*tasks, strict=True)))


def unique(calls: Iterator[Call]) -> list[Call]:
    """The first call of each machine code."""
    return list({call.code: call for call in reversed(list(calls))}.values())[::-1]


def record(operator: str) -> list[Call]:
    """The launches of all specimens of an operator, on tiny tensors of the CPU."""
    calls: list[Call] = []
    for specimen in OPERATORS[operator].specimens():
        with recording(operator, specimen.label, calls):
            specimen.call(*specimen.inputs(torch.device("cpu"), False))
    return calls


@contextmanager
def recording(operator: str, specimen: str, calls: list[Call]) -> Iterator[None]:
    """A block in which launches of kernels are appended to `calls`; nothing runs."""
    from triton.runtime.jit import JITFunction

    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **keywords: Any) -> None:
        calls.append(describe(operator, specimen, kernel, args, keywords))

    before, refusal = JITFunction.run, choice.refusal_of_device
    JITFunction.run, choice.refusal_of_device = run, lambda kind, index: None
    try:
        with choice.use("triton"):
            yield
    finally:
        JITFunction.run, choice.refusal_of_device = before, refusal


def describe(
    operator: str, specimen: str, kernel: Any, args: tuple[Any, ...], keywords: dict[str, Any]
) -> Call:
    """Types and constants as Triton's own launcher derives them from the values."""
    options = {k: keywords.pop(k) for k in ("num_warps", "num_stages") if k in keywords}
    bound = kernel.signature.bind(*args, **keywords)
    bound.apply_defaults()
    types, constants, divisible = [], [], []
    for parameter in kernel.params:
        name, value = parameter.name, bound.arguments[parameter.name]
        specialised = not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (specialised and is_one(value)):
            types.append((name, "constexpr"))
            constants.append((name, value))
            continue
        types.append((name, type_of(value)))
        if isinstance(value, torch.Tensor) or (
            specialised and isinstance(value, int) and value % 16 == 0
        ):
            divisible.append(name)
    return Call(
        operator,
        specimen,
        kernel.fn.__module__,
        kernel.fn.__name__,
        tuple(types),
        tuple(constants),
        tuple(divisible),
        tuple(options.items()),
    )


def is_one(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == 1


def type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return POINTERS[value.dtype]
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if abs(value) < 2**31 else "i64"
    return "fp32"


def compile_call(call: Call, target: int) -> Compiled:
    """Compiles one call for one compute capability and reads the machine code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(import_module(call.module), call.kernel)
    names = [name for name, _ in call.arguments]
    source = ASTSource(
        kernel,
        signature=dict(call.arguments),
        constexprs=dict(call.constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in call.divisible},
    )
    compiled = triton.compile(
        source, target=GPUTarget("cuda", target, 32), options=dict(call.options)
    )
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        usage, code = (
            tool("cuobjdump", "--dump-resource-usage", binary),
            tool("nvdisasm", "-c", binary),
        )
    instructions = [name for line in code.splitlines() if (name := instruction(line))]
    blocks = {k: v for k, v in call.constants if k.isupper() and isinstance(v, int)}
    row = Compiled(
        operator=call.operator,
        specimen=call.specimen,
        kernel=call.kernel,
        target=target,
        blocks=blocks,
        num_warps=dict(call.options).get("num_warps", 4),
        registers=int(re.findall(r"REG:(\d+)", usage)[-1]),
        spills=sum(name.startswith(("LDL", "STL")) for name in instructions),
        shared=compiled.metadata.shared,
        tensor_core=sum(name.startswith(TENSOR_CORE[target]) for name in instructions),
        instructions=len(instructions),
        loop=longest_inner_loop(code),
        has_dot="tt.dot" in compiled.asm["ttir"],
        half=any(kind in ("*bf16", "*fp16") for _, kind in call.arguments),
    )
    row.problems = problems(row)
    return row


def problems(row: Compiled) -> list[str]:
    """What a shipped launch must not do."""
    found = []
    if row.spills:
        found.append(f"{row.spills} spills")
    if row.registers > MOST_REGISTERS:
        found.append(f"{row.registers} registers")
    if row.shared > MOST_SHARED[row.target]:
        found.append(f"{row.shared} bytes of shared memory")
    if row.has_dot and row.half and not row.tensor_core:
        found.append(f"no {' or '.join(TENSOR_CORE[row.target])}")
    return found


def print_json(rows: list[Compiled]) -> None:
    print(json.dumps([asdict(row) for row in rows]))


def report_elsewhere() -> list[Compiled]:
    """`report` in a process in which Triton compiles, also where it interprets here."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    code = f"from {__name__} import print_json, report; print_json(report())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"the compile report failed:\n{done.stderr}")
    return [Compiled(**row) for row in json.loads(done.stdout)]
