"""What was read and what was left out, counted and in words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

SHOWN = 12  # class names
EXAMPLES = 2  # of what was left out for one reason, and of captions
LONGEST_SHOWN = 60  # characters of a caption


@dataclass
class LeftOut:
    """Counts of what was not read, by reason, each with its first examples."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """`count` more for a reason, such as "in hidden folders"; `name` is one of them."""
        if not count:
            return
        self.counts[reason] = self.counts.get(reason, 0) + count
        some = self.examples.setdefault(reason, [])
        if len(some) < EXAMPLES:
            some.append(name)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def words(self) -> str:
        """Such as "in hidden folders: 2 (.thumbs); other files: 1 (notes.txt)"."""
        parts = []
        for reason, count in self.counts.items():
            some = ", ".join(self.examples[reason]) + (", ..." if count > EXAMPLES else "")
            parts.append(f"{reason}: {count:,} ({some})")
        return "; ".join(parts)


def in_words(
    count: int | None,
    classes: Sequence[str] | None,
    left_out: LeftOut | None = None,
    notes: Sequence[str] = (),
    captions: Sequence[str] | None = None,
) -> str:
    """Such as "12 pictures in 3 classes (bus, car, train). Left out: hidden files: 1 (.a.png).".

    Args:
        count: of pictures; None for a stream, whose end is not known.
        classes: their names; None where the pictures have none.
        notes: whole sentences, such as how the classes were found.
        captions: some of them, of pictures with captions and no classes.
    """
    pictures = "a stream of pictures" if count is None else _number(count, "picture")
    if captions is not None:
        such = " and ".join(f'"{_shortened(text)}"' for text in dict.fromkeys(captions))
        text = f"{pictures} with captions{f' (such as {such})' if such else ''}."
    elif classes is None:
        text = f"{pictures} without classes."
    else:
        names = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
        text = f"{pictures} in {_number(len(classes), 'class', 'classes')} ({names})."
    if left_out:
        text += f" Left out: {left_out.words()}."
    return " ".join([text, *notes])


def _shortened(text: str) -> str:
    """A text on one line, cut off if it is long, also in scripts without spaces."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 3]}..."


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
