"""What of a prompt is too long to be read."""

from bisect import bisect_right
from collections.abc import Callable

LONGEST_WORD = 40  # characters; what is longer is written without blanks, as Chinese is


def unread(text: str, tokens: Callable[[str], int], most: int) -> str:
    """The end of a text that is beyond so many tokens, from the first word that is cut.

    By trial, since not every tokenizer says which characters a token stands for.

    Args:
        text: words with one blank between them.
        tokens: of how many a text is made, with the marks around it.
    """
    if tokens(text) <= most:
        return ""
    words = text.split(" ")
    kept = next(
        count
        for count in range(min(len(words), most), -1, -1)  # a word is a token at least
        if tokens(" ".join(words[:count])) <= most
    )
    cut, rest = words[kept], " ".join(words[kept:])
    if len(cut) <= LONGEST_WORD:
        return rest
    before = " ".join([*words[:kept], ""])
    ends = range(1, len(cut))
    return rest[bisect_right(ends, most, key=lambda end: tokens(before + cut[:end])) :]
