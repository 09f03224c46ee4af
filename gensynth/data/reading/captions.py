"""One contract for captions, whatever they come from: texts, one or several for a picture.

A list of texts is several captions, and so are the lines of a `.txt`. Empty ones say nothing.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gensynth.errors import InputError, UsageError
from gensynth.seeding import derived_seed
from gensynth.values import plain_text

TEXT_COLUMNS = ("text", "caption", "captions", "prompt")
UNUSED = "To train on classes instead, set condition.kind=classes."


def captions_of(value: Any, where: str = "the text column") -> list[str]:
    """The captions that a value means, written as prompts are; [] if it says nothing.

    Raises:
        UsageError: it is no text, such as a number.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []  # as pandas leaves a missing value
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise _refusal("bytes that are no text", value, where) from error
    if isinstance(value, str):
        text = plain_text(value)
        try:
            text.encode()
        except UnicodeEncodeError as error:  # JSON can write halves of characters
            raise _refusal("halves of characters", ascii(text), where) from error
        return [text] if text else []
    if isinstance(value, list | tuple):
        return [text for one in value for text in captions_of(one, where)]
    kind = "fields" if isinstance(value, Mapping) else f"values of type {type(value).__name__}"
    raise _refusal(kind, value, where)


def _refusal(kind: str, value: Any, where: str) -> UsageError:
    return UsageError(
        f"the captions in {where} are {kind} (such as {str(value)[:60]}), but should be texts, or "
        "lists of texts. Make a column of them and set data.text_column."
    )


def lines_of(content: bytes, name: str) -> list[str]:
    """The captions in a `.txt`: its lines that are not empty.

    Raises:
        InputError: it is no text in UTF-8.
    """
    try:
        return captions_of(content.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is no text in UTF-8: {error}. Save it as UTF-8, or remove it."
        ) from error


def captions_in_tables(
    files: Sequence[Path], tables: Mapping[Path, Mapping[str, Any]], column: str
) -> list[list[str]]:
    """What a column of the tables about some pictures says of each."""
    where = f"the column {column} of the metadata"
    return [captions_of(tables.get(file, {}).get(column), where) for file in files]


def captions_beside(files: Sequence[Path], texts: Sequence[Path]) -> list[list[str]]:
    """What the `.txt` of the same name beside each picture says of it.

    Raises:
        InputError: one cannot be read, or is no text.
    """
    beside = {text.with_suffix(""): text for text in texts}
    found = [beside.get(file.with_suffix("")) for file in files]
    return [[] if text is None else lines_of(_content(text), str(text)) for text in found]


def _content(text: Path) -> bytes:
    try:
        return text.read_bytes()
    except OSError as error:
        raise InputError(f"{text} cannot be read: {error.strerror or error}.") from error


def chosen_caption(captions: list[str], seed: int, position: int) -> str:
    """The one of a picture's captions that is told at a position: each equally likely."""
    if len(captions) == 1:
        return captions[0]
    return captions[derived_seed(seed, "caption", position) % len(captions)]
