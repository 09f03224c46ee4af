"""What stands in the machine code of a kernel, read with the programs in Triton's wheel."""

import re
import subprocess
from pathlib import Path

INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T0-9]+ )?([A-Z][A-Z0-9_.]*)")
LABEL = re.compile(r"^(\.L_\w+):")
TARGET = re.compile(r"BRA\S*\s.*`\((\.L_\w+)\)")


def instruction(line: str) -> str | None:
    """The name of the instruction on a line of nvdisasm, if there is one; paddings are none."""
    found = INSTRUCTION.match(line)
    return found[1] if found and found[1] != "NOP" else None


def longest_inner_loop(code: str) -> int:
    """Instructions from the target of a backward branch to the branch, of loops without loops."""
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    count = 0
    for line in code.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = count
        if not instruction(line):
            continue
        count += 1
        target = TARGET.search(line)
        if target and target[1] in labels and labels[target[1]] < count - 1:
            loops.append((labels[target[1]], count))
    inner = [
        (a, b)
        for a, b in loops
        if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)
    ]
    return max((b - a for a, b in inner), default=0)


def tool(name: str, *arguments: str | Path) -> str:
    """The output of one of the programs in Triton's wheel."""
    import triton

    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    command = [program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
