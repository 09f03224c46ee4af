"""One line of the compile report."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Compiled:
    """What became of a call."""

    operator: str
    specimen: str
    kernel: str
    target: int
    blocks: dict[str, Any]
    num_warps: int
    registers: int
    spills: int  # loads and stores of local memory
    shared: int  # bytes
    tensor_core: int  # instructions
    instructions: int
    loop: int  # instructions of the longest innermost loop
    has_dot: bool
    half: bool  # 16-bit inputs
    problems: list[str] = field(default_factory=list)

    @property
    def instructions_per_element(self) -> float | None:
        """Of the loop over rows of a depthwise kernel; none of other kernels."""
        if not {"BLOCK_W", "BLOCK_C"} <= set(self.blocks):
            return None
        return self.loop * 32 * self.num_warps / (self.blocks["BLOCK_W"] * self.blocks["BLOCK_C"])
