"""Captions that name a thing and its style: `red apple, fluent`."""

from collections.abc import Sequence

LEAST = 4  # captions for each style, on average; otherwise what stands behind a comma is no style


def thing_and_style(caption: str) -> tuple[str, str]:
    """What stands before and behind the last comma; without one, there is no style: ""."""
    thing, comma, style = caption.rpartition(", ")
    return (thing, style) if comma else (caption, "")


def styles_of(captions: Sequence[str]) -> list[str]:
    """The styles that captions name, sorted; empty if they are not of things and styles.

    They are if every one has a comma, and there are few different words behind it.
    """
    styles = {thing_and_style(caption)[1] for caption in captions}
    few = 2 <= len(styles) <= len(captions) / LEAST
    return sorted(styles) if few and "" not in styles else []
