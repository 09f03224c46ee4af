"""What a picture is to show. Adding a kind: a file here with a `Condition`, and its line below."""

from gensynth.conditions.classes import Classes
from gensynth.conditions.contract import Condition, Conditions, Item, dropped, joined
from gensynth.conditions.nothing import Nothing
from gensynth.conditions.texts import Texts
from gensynth.errors import UsageError, did_you_mean

__all__ = [
    "CONDITIONS",
    "Classes",
    "Condition",
    "Conditions",
    "Item",
    "Nothing",
    "Texts",
    "condition_kind",
    "dropped",
    "joined",
]

# The word in a configuration and in a saved folder -> the kind of condition.
CONDITIONS: dict[str, type[Condition]] = {
    "classes": Classes,
    "none": Nothing,
    "text": Texts,
}


def condition_kind(name: str) -> type[Condition]:
    """The kind of condition with that name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in CONDITIONS:
        raise UsageError(
            f"there is no kind of condition {name!r}.{did_you_mean(name, CONDITIONS)} "
            f"Known: {', '.join(CONDITIONS)}."
        )
    return CONDITIONS[name]
