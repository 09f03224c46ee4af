"""Tables about the pictures of a folder: `metadata.csv` and `metadata.jsonl`, as the hub has them.

A row has `file_name`, relative to the folder of the table, and what is known of that picture.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gensynth.data.reading.captions import TEXT_COLUMNS
from gensynth.data.reading.contents import LeftOut
from gensynth.errors import InputError, UsageError

NAME = "file_name"


def read_metadata(
    tables: Sequence[Path], left_out: LeftOut, captions: Sequence[str] = TEXT_COLUMNS
) -> dict[Path, dict[str, Any]]:
    """What some tables say of each picture; one without `file_name` is left out.

    Rows about one picture that differ in its `captions` only are one with a list of them.

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
            known = found.setdefault(picture, row)
            if known != row:
                if _without(known, captions) != _without(row, captions):
                    raise InputError(
                        f"{table}, line {line}: another row says something else of {name}. "
                        "Keep one of them."
                    )
                for column in set(captions) & {*known, *row}:
                    known[column] = [*_listed(known.get(column)), *_listed(row.get(column))]
    return found


def column_of(
    tables: dict[Path, dict[str, Any]], given: str | None, usual: Sequence[str], key: str
) -> str | None:
    """The column of some tables that is given by a key of the data, or else has a usual name.

    Raises:
        UsageError: the one given is not there.
    """
    columns = list(dict.fromkeys(column for row in tables.values() for column in row))
    if given is not None and given not in columns and (columns or given != usual[0]):
        there = ", ".join(columns) or "there is no metadata.csv or metadata.jsonl"
        raise UsageError(f"data.{key} {given!r} is not one of the columns: {there}.")
    if given in columns:
        return given
    return next((name for name in usual if name in columns), None)


def _without(row: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in columns}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


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
