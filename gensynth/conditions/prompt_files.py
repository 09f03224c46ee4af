"""Prompts of a file: a text with one in each line, or a table with a column of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gensynth.errors import InputError, UsageError, did_you_mean, first_line

# The first of these that a table has. As of training data (`data.reading.captions`), but a column
# that is called "prompt" beside a caption is what is meant here.
PROMPT_COLUMNS = ("prompt", "text", "caption", "captions")
SHOWN = 60  # characters of a value in a message


def read_prompts(file: Path | str) -> list[str]:
    """The prompts of a .txt, .csv, .jsonl or .parquet file, in their order.

    Every row of a table is one prompt, so that they stay in step with other columns of it: the
    first of a list of captions, and the empty prompt where there is none. Empty lines of a .txt
    say nothing and are left out.

    Raises:
        UsageError: a file of another kind, or a table without such a column.
        InputError: it is missing, damaged or empty, or holds something else than texts.
    """
    file = Path(file)
    read = READERS.get(file.suffix.lower())
    if read is None:
        raise UsageError(f"prompts are read from {', '.join(READERS)}, not from {file}.")
    try:
        prompts = list(read(file))
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not in UTF-8; save it so.") from error
    except OSError as error:  # pyarrow's are too, in many words
        raise InputError(
            f"{file} cannot be read: {error.strerror or first_line(error)}."
        ) from error
    if not prompts:
        raise InputError(f"{file} holds no prompts; write one in each line or row.")
    return prompts


def all_prompts(typed: Sequence[str] | None, file: Path | str | None) -> list[str]:
    """The prompts of a command line: those that were typed, then those of a file.

    Raises:
        UsageError, InputError: as `read_prompts`.
    """
    return [*(typed or ()), *(read_prompts(file) if file is not None else ())]


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig") as stream:  # Notepad begins a file with a mark
        for line in stream:
            if line.strip():
                yield line.strip()


def _csv(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, strict=True)
        try:
            column = _column(file, list(rows.fieldnames or ()))
            for row in rows:
                yield _prompt(file, rows.line_num, row[column])
        except csv.Error as error:
            raise InputError(f"{file}, line {rows.line_num + 1}, is no CSV: {error}.") from error


def _json_lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig") as stream:
        column = ""
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{file}, line {number}, is no JSON: {error}.") from error
            if not isinstance(row, dict | str):
                raise InputError(f"{file}, line {number}, is neither an object nor a text.")
            if isinstance(row, dict):
                column = column or _column(file, list(row))
                row = row.get(column)
            yield _prompt(file, number, row)


def _parquet(file: Path) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            column = _column(file, table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches(columns=[column]):  # not the pictures beside it
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield _prompt(file, number, value)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{file} is no Parquet file: {first_line(error)}.") from error


def _column(file: Path, columns: list[str]) -> str:
    for name in PROMPT_COLUMNS:
        if name in columns:
            return name
    near = next((hint for name in columns if (hint := did_you_mean(name, PROMPT_COLUMNS))), "")
    known = ", ".join(columns)[:200] or "none"
    raise UsageError(
        f"{file} has no column of prompts: call one of its columns ({known}) "
        f"{', '.join(PROMPT_COLUMNS[:-2])} or {PROMPT_COLUMNS[-2]}.{near}"
    )


def _prompt(file: Path, number: int, value: Any) -> str:
    """The text of a row; the first one of several."""
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{file}, row {number}: a prompt is a text, got {repr(value)[:SHOWN]}.")
    return value


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _lines,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
