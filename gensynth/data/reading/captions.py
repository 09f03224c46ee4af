"""One contract for captions, whatever they come from: texts, one or several for a picture.

A list of texts is several captions, and so are the lines of a `.txt`. Empty ones say nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

from gensynth.errors import UsageError
from gensynth.seeding import derived_seed

TEXT_COLUMNS = ("text", "caption", "captions", "prompt")
UNUSED = "To train on classes instead, set condition.kind=classes."


def captions_of(value: Any, where: str = "the text column") -> list[str]:
    """The captions that a value means, without the white space around them; [] if it says nothing.

    Raises:
        UsageError: it is no text, such as a number.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []  # as pandas leaves a missing value
    if isinstance(value, str):
        text = value.strip()
        return [text] if text else []
    if isinstance(value, list | tuple):
        return [text for one in value for text in captions_of(one, where)]
    kind = "fields" if isinstance(value, Mapping) else f"values of type {type(value).__name__}"
    raise UsageError(
        f"the captions in {where} are {kind} (such as {str(value)[:60]}), but should be texts, or "
        "lists of texts. Make a column of them and set data.text_column."
    )


def chosen_caption(captions: list[str], seed: int, position: int) -> str:
    """The one of a picture's captions that is told at a position: each equally likely."""
    if len(captions) == 1:
        return captions[0]
    return captions[derived_seed(seed, "caption", position) % len(captions)]
