"""Tables of the compile report."""

from rich.console import Console
from rich.table import Table

from gensynth_benchmarks.compiled import Compiled


def print_table(rows: list[Compiled]) -> None:
    table = Table(title="Kernels compiled ahead of time")
    for column in ("kernel", "specimen", "sm", "warps", "registers", "spills", "shared KiB"):
        table.add_column(column, justify="left" if column in ("kernel", "specimen") else "right")
    for column in ("tensor core", "instructions", "per element", "problems"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.operator}.{row.kernel}",
            row.specimen,
            str(row.target),
            str(row.num_warps),
            str(row.registers),
            str(row.spills),
            f"{row.shared / 1024:.0f}",
            str(row.tensor_core) if row.has_dot else "",
            str(row.instructions),
            f"{row.instructions_per_element:.1f}" if row.instructions_per_element else "",
            "; ".join(row.problems),
        )
    Console(width=170).print(table)


def summary(rows: list[Compiled]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and cells of a table with a line for each kernel and target: the worst."""
    kernels: dict[tuple[str, str, int], list[Compiled]] = {}
    for row in rows:
        kernels.setdefault((row.operator, row.kernel, row.target), []).append(row)
    cells = []
    for (operator, kernel, target), found in kernels.items():
        per_element = [row.instructions_per_element for row in found]
        halves = [row.tensor_core for row in found if row.has_dot and row.half]
        cells.append(
            [
                f"{operator}, {kernel}",
                f"sm_{target}",
                str(len(found)),
                str(max(row.registers for row in found)),
                str(max(row.spills for row in found)),
                f"{max(row.shared for row in found) / 1024:.0f}",
                str(min(halves)) if halves else "",
                f"{max(filter(None, per_element)):.1f}" if any(per_element) else "",
            ]
        )
    columns = ["kernel", "target", "launches", "most registers", "most spills"]
    columns += ["most shared KiB", "least tensor core (16 bit)", "most instructions per element"]
    return "Kernels compiled ahead of time, the worst of all launches", columns, cells
