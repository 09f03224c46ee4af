"""The Markdown of a step, and the part of docs/speed.md that is made of the results on GPUs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gensynth.errors import InputError
from gensynth.files import write_text
from gensynth_benchmarks.gpu_steps import STEPS
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import Table

BEGIN = "<!-- From here: python benchmarks/gpu.py tables -->"
END = "<!-- To here. -->"
NOTHING = (
    "No GPU has run any of this yet: `python benchmarks/gpu.py --list` says what is prepared, and "
    "[gpu-notes.md](gpu-notes.md) what is expected of it.\n"
)


def as_markdown(step: str, about: Row, tables: Sequence[Table], verdicts: Sequence[str]) -> str:
    """What a step writes beside its JSON."""
    parts = [f"# {step}\n\n{circumstances_line(about)}"]
    parts += [table.markdown() for table in tables]
    parts += ["### Targets\n\n" + "".join(f"- {line}\n" for line in verdicts)]
    return "\n".join(parts)


def circumstances_line(about: Row) -> str:
    """When, where and with what, as a paragraph."""
    trial = "A trial in miniature; these numbers say nothing. " if about.get("miniature") else ""
    copied, multiplied = about["copy_bytes_per_second"], about["matmul_flops_per_second"]
    names = ("torch", "triton", "diffusers")
    versions = ", ".join(f"{name} {about[name]}" for name in names if about.get(name))
    ceilings = "" if trial else f"; copy {copied / 1e12:.2f} TB/s, {multiplied / 1e12:.0f} TFLOP/s"
    return (
        f"{trial}{about['device']}, {about['date']}, {versions}, commit {about['commit']}"
        f"{ceilings}: `{about['command']}`\n"
    )


def measured(results: Path) -> Iterator[tuple[str, Mapping[str, Row]]]:
    """Each GPU with the content of its steps' files by step."""
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        if folder.name.startswith("cpu-"):
            continue
        paths = {step: folder / f"{step}.json" for step in STEPS}
        steps = {
            step: json.loads(path.read_text()) for step, path in paths.items() if path.is_file()
        }
        steps = {step: content for step, content in steps.items() if not content.get("miniature")}
        if steps:
            yield folder.name, steps


def gpu_text(results: Path) -> str:
    """The tables of all steps that ran on a GPU, and what became of their targets."""
    parts: list[str] = []
    for device, steps in measured(results):
        missing = [step for step in STEPS if step not in steps]
        parts.append(f"**{device}**" + (f" (not run: {', '.join(missing)})" if missing else ""))
        for step, content in steps.items():
            rows = content["rows"]
            parts.append(circumstances_line(content).strip())
            parts += [table.markdown().strip() for table in STEPS[step].tables(rows, content)]
            parts.append("\n".join(f"- {line}" for line in STEPS[step].verdicts(rows)))
    return "\n\n".join(parts) + "\n" if parts else NOTHING


def with_results(page: str, results: Path) -> str:
    """The text of the page with that part made anew.

    Raises:
        InputError: it has no such part.
    """
    return between_marks(page, "docs/speed.md", (BEGIN, END), gpu_text(results))


def between_marks(page: str, name: str, marks: tuple[str, str], text: str) -> str:
    """The page with `text` between two lines that mark a part of it.

    Raises:
        InputError: they are not there, or more than once.
    """
    begin, end = marks
    if page.count(begin) != 1 or page.count(end) != 1:
        raise InputError(f"{name} needs one line {begin!r} and one line {end!r} after it.")
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{text}\n{end}{rest.split(end)[1]}"


def write_tables(root: Path) -> str:
    """Makes that part of docs/speed.md anew; says what was done."""
    path, results = root / "docs/speed.md", root / "benchmarks" / "results"
    text = with_results(path.read_text(encoding="utf-8"), results)
    write_text(path, text)
    devices = ", ".join(device for device, _ in measured(results)) or "no GPU"
    return f"docs/speed.md holds the results of {devices}"
