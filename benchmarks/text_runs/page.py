"""A part of a page of docs that is made of results that are committed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gensynth.files import write_text
from gensynth_benchmarks.gpu_steps.summary import between_marks
from gensynth_benchmarks.ledger import Row

NOTHING = "Not measured yet.\n"


@dataclass(frozen=True)
class Part:
    """What stands between two lines of a page.

    Attributes:
        name: of the files of rows, without .json.
        page: from the root of the repository.
        begin, end: the two lines.
        paragraphs: of a folder of results and the content of its file of rows.
    """

    name: str
    page: str
    begin: str
    end: str
    paragraphs: Callable[[Path, Row], list[str]]

    def text(self, results: Path) -> str:
        """That part of the page; trials in miniature are left out."""
        parts: list[str] = []
        for path in sorted(results.glob(f"*/{self.name}.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            if not content["miniature"]:
                parts += self.paragraphs(path.parent, content)
        return "\n\n".join(parts) + "\n" if parts else NOTHING

    def put_into(self, page: str, results: Path) -> str:
        """The text of the page with that part made anew.

        Raises:
            InputError: it has no such part.
        """
        return between_marks(page, self.page, (self.begin, self.end), self.text(results))

    def write(self, root: Path) -> str:
        """Makes that part of the page anew, and gives it."""
        path, results = root / self.page, root / "benchmarks" / "results"
        write_text(path, self.put_into(path.read_text(encoding="utf-8"), results))
        return self.text(results)


def image(folder: Path, file: str, what: str) -> list[str]:
    """A line that shows a picture of the results, if it is there."""
    there = (folder / file).is_file()
    return [f"![{what}](../benchmarks/results/{folder.name}/{file})"] if there else []


def said_of(about: Row) -> str:
    """When, where and with what, as a paragraph."""
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", "diffusers") if about[name])
    trial = "A trial in miniature; these numbers say nothing. " if about["miniature"] else ""
    return (
        f"{trial}{about['device']}, {about['date']}, {versions}, commit {about['commit']}: "
        f"`{about['command']}`"
    )
