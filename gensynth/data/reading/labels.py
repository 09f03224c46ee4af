"""One contract for labels, whatever they come from: whole numbers or names, one for a picture.

Text, whole floats (as pandas leaves them where a value is missing), true and false, and the bytes
of a `.cls` file are understood. Lists are refused: a picture has one class.
"""

import math
import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from gensynth.data.reading.endings import natural
from gensynth.errors import UsageError, did_you_mean

LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label")
MOST_CLASSES = 100_000
LONGEST = 1000  # characters of a name; longer texts are captions
# Whole numbers up to this many for each that occurs, and a thousand more, count the classes from 0,
# so that a part of ImageNet keeps its numbers; larger ones are ids, such as 20231104.
GAPS, FREE = 10, 1000


class Labels:
    """The classes of some data, and which number a value means.

    Args:
        values: the different values that occur, in any order; None if they are not known, as in a
            stream.
        given: names of the classes in the order of their numbers, if they are known.
        where: what to call the labels in a message.

    Attributes:
        classes: names by number.

    Raises:
        UsageError: values that are no classes, or not among those given.
    """

    def __init__(
        self,
        values: Iterable[Any] | None,
        given: Sequence[str] | None = None,
        where: str = "the label column",
    ):
        self.where, self.numbers = where, dict[int | str, int]()
        read = {self.plain(value) for value in values or ()}
        plain = {value for value in read if value is not None}
        if given is not None:
            self.classes = list(map(str, given))
            for value in sorted(plain, key=lambda value: natural(str(value))):
                self._among_given(value)
            return
        if values is None:
            raise UsageError("this stream does not carry class names. Set data.classes.")
        whole = [value for value in plain if isinstance(value, int)]
        if len(whole) < len(plain):  # names, among which a number is a name too
            self.classes = sorted(map(str, plain), key=natural)
        elif whole and min(whole) < 0:
            raise UsageError(
                f"the labels in {where} must be whole numbers from 0 or names, but there is "
                f"{min(whole)}. Choose another data.label_column."
            )
        elif max(whole, default=0) > GAPS * len(whole) + FREE:
            self._check_ids(sorted(whole))
            self.classes = [str(number) for number in sorted(whole)]
        else:
            self.classes = [str(number) for number in range(max(whole, default=0) + 1)]
        self._check_count(len(plain))
        self.numbers |= {name: number for number, name in enumerate(self.classes)}
        self.numbers |= {
            int(name): number for number, name in enumerate(self.classes) if whole_text(name)
        }

    def number(self, value: Any) -> int | None:
        """The class a value means; None where it says nothing (empty, or not a number).

        Raises:
            UsageError: it is none of the classes.
        """
        plain = self.plain(value)
        if plain is None:
            return None
        known = self.numbers.get(plain)
        return self._among_given(plain) if known is None else known

    def plain(self, value: Any) -> int | str | None:
        """A value as a whole number or as text; None if it is empty or not a number.

        Raises:
            UsageError: it is something else, such as a list.
        """
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise self._refusal("bytes that are no text", value[:20]) from error
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, str):
            text = value.strip()
            if len(text) > LONGEST:
                raise self._refusal(f"texts longer than {LONGEST} characters", text[:20])
            return int(text.partition(".")[0]) if whole_text(text) else text or None
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real) and float(value).is_integer():
            return int(float(value))
        kind = "fractions" if isinstance(value, Real) else f"values of type {type(value).__name__}"
        lists = isinstance(value, list | tuple | dict) or hasattr(value, "__len__")
        raise self._refusal("lists" if lists else kind, value)

    def _among_given(self, value: int | str) -> int:
        """The number of a value among the classes that were given."""
        names, text = self.classes, str(value)
        if isinstance(value, int) and 0 <= value < len(names):
            number = value
        elif text in names:
            number = names.index(text)
        elif isinstance(value, int):
            raise UsageError(
                f"the data have label {value}, but there are only {len(names)} classes: "
                f"{', '.join(names[:12])}. Set data.classes or data.label_column."
            )
        else:
            raise UsageError(
                f"the data have label {text!r}, which is none of the {len(names)} classes: "
                f"{', '.join(names[:12])}.{did_you_mean(text, names)} Set data.classes or "
                "data.label_column."
            )
        self.numbers[value] = number
        return number

    def _check_ids(self, whole: list[int]) -> None:
        """Whether numbers that are too large to count classes are all ids, and not one a slip."""
        if whole[0] <= FREE:
            few = len(whole) <= 12
            names = ", ".join(f'"{number}"' for number in whole) if few else '"0", ...'
            raise UsageError(
                f"the labels in {self.where} go from {whole[0]} to {whole[-1]}, but only "
                f"{len(whole)} different ones occur: is {whole[-1]} a mistake, or a mark of "
                "pictures without a class? If all are classes, name them: "
                f"data.classes='[{names}]'."
            )

    def _check_count(self, different: int) -> None:
        if max(different, len(self.classes)) > MOST_CLASSES:
            raise UsageError(
                f"{self.where} has {different:,} different labels, more than {MOST_CLASSES:,}: "
                "these are hardly classes. Choose another data.label_column."
            )

    def _refusal(self, what: str, example: Any) -> UsageError:
        return UsageError(
            f"the labels in {self.where} are {what} (such as {str(example)[:60]}), but a picture "
            "has one class here. Make a column with one number or name for each picture and set "
            "data.label_column."
        )


def whole_text(text: str) -> bool:
    """Whether text is a whole number as programs write them: 7 or 7.0, and not 007."""
    return re.fullmatch(r"(0|[1-9][0-9]{0,17})(\.0*)?", text) is not None
