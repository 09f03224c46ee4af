"""Emoji in a text, by their names: "🍎, fluent" says "red apple, fluent".

`emoji.txt` holds the short names of Unicode's CLDR that differ from the names of the characters
(which `unicodedata` knows): "red heart", which the character's own name calls a black one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

NAMES = Path(__file__).with_name("emoji.txt")
AS_PICTURE, JOINER = "\ufe0f", "\u200d"
TONE = "[\U0001f3fb-\U0001f3ff]"  # of skin
TAG = "[\U000e0020-\U000e007f]"  # spells the region of a flag
PICTURE = (
    "[\U0001f000-\U0001f1e5\U0001f200-\U0001faff\u231a-\u23ff\u25fd\u25fe\u2600-\u27bf"
    "\u2b1b\u2b1c\u2b50\u2b55]"
)
ONE = f"(?:{PICTURE}|[^\\s\\dA-Za-z#*{AS_PICTURE}](?={AS_PICTURE})){AS_PICTURE}?{TONE}?{TAG}*"
EMOJI = re.compile(
    f"[0-9#*]{AS_PICTURE}?\u20e3"  # a key
    "|[\U0001f1e6-\U0001f1ff]{2}"  # a flag, by the two letters of its country
    f"|{ONE}(?:{JOINER}{ONE})*"
)
UNSAID = re.compile(f"{AS_PICTURE}|{TONE}")  # a name is that of the thing, whatever its skin


def in_words(text: str, known: Callable[[str], bool] = lambda emoji: False) -> str:
    """The text with each emoji's name in its place; all else stays as it is.

    Args:
        known: whether an emoji is a word of its own and stays.
    """
    said, at = "", 0
    for found in EMOJI.finditer(text):
        name = None if known(found[0]) else name_of(found[0])
        if name is None:
            continue
        said += text[at : found.start()]
        joins = bool(said) and not said[-1].isspace() and said[-1] not in "([{\"'"
        said += f" {name}" if joins else name
        at = found.end()
        if text[at : at + 1].isalnum():
            said += " "
    return said + text[at:]


def name_of(emoji: str) -> str | None:
    """The name of an emoji, that of its parts if it has none, or None if they have none either."""
    bare = UNSAID.sub("", emoji)
    whole = _names().get(bare)
    if whole is not None:
        return whole
    parts = [part for part in re.sub(TAG, "", bare).split(JOINER) if part]
    names = [_names().get(part) or _characters(part) for part in parts]
    return None if None in names or not names else " ".join(map(str, names))


def _characters(part: str) -> str | None:
    names = [unicodedata.name(character, "") for character in part]
    return " ".join(names).lower() if all(names) else None


@cache
def _names() -> dict[str, str]:
    lines = NAMES.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if "\t" in line)
