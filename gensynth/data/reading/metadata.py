"""Tables about the pictures of a folder: `metadata.csv` and `metadata.jsonl`, as the hub has them.

A row has `file_name`, relative to the folder of the table, and what is known of that picture.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gensynth.data.reading.contents import LeftOut
from gensynth.errors import InputError

NAME = "file_name"
CAPTIONS = ("text", "caption", "captions", "prompt")


def read_metadata(tables: Sequence[Path], left_out: LeftOut) -> dict[Path, dict[str, Any]]:
    """What some tables say of each picture; one without `file_name` is left out.

    Raises:
        InputError: a table that cannot be read, a name that leads out of its folder, or two rows
            about one picture that say different things.
    """
    found: dict[Path, dict[str, Any]] = {}
    for table in tables:
        for line, row in _rows(table):
            name = row.pop(NAME, None)
            if name is None:
                left_out.add(f"tables without a column {NAME}", str(table))
                break
            picture = _below(table, line, name)
            if found.setdefault(picture, row) != row:
                raise InputError(
                    f"{table}, line {line}: another row says something else of {name}. "
                    "Keep one of them."
                )
    return found


def _below(table: Path, line: int, name: Any) -> Path:
    """The picture a row is about."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{table}, line {line}: {NAME} must be the name of a file, got {name!r}.")
    relative = os.path.normpath(name.strip().replace("\\", "/"))
    if relative.startswith("/") or relative.split("/")[0] == "..":
        raise InputError(
            f"{table}, line {line}: {name} lies outside of {table.parent}. Names are relative to "
            "the folder of the table, and inside of it."
        )
    return table.parent / relative


def _rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table, each with the number of its line."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            if table.suffix.lower() == ".csv":
                reader = csv.DictReader(stream, strict=True)
                for row in reader:
                    if None in row:
                        raise InputError(
                            f"{table}, line {reader.line_num}: there are more values than columns. "
                            "Put values with commas into quotation marks."
                        )
                    yield reader.line_num, row
                return
            for line, text in enumerate(stream, 1):
                if text.strip():
                    row = json.loads(text)
                    if not isinstance(row, dict):
                        raise InputError(f"{table}, line {line} is not a JSON object.")
                    yield line, row
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, RecursionError) as error:
        raise InputError(
            f"{table} cannot be read: {error}. It has to be a table in UTF-8 with a column {NAME}."
        ) from error
