"""What people call classes: by name, by one of several names, by WordNet id, or by number.

A name wins over a number, and what can be read in two ways is refused with both of them. Upper and
lower case are the same, and blanks do not count beside commas.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from gensynth.errors import UsageError, did_you_mean

INDEX, NAME = "index:", "name:"  # before a text that is to be read as a number, as a name
NUMBER = re.compile(r"[0-9]+")
RANGE = re.compile(r"([0-9]+)\s*-\s*([0-9]+)")
# A piece of a line up to its comma: in quotes, where "" is a quote, or as it is.
PIECE = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|$)|([^,]*)(?:,|$)')
MOST_DIGITS = 18  # no number of a class has more; Python refuses to read thousands
MOST_SHOWN = 200  # characters of a text in a message
SOME = 12  # classes in a message
SIMILAR = 0.4  # how near a word has to be, to be suggested


class Piece(NamedTuple):
    """What stands between two commas of a line."""

    text: str
    quoted: bool


class ClassNames:
    """The names of all classes, in the order of their numbers.

    Args:
        names: each may hold several, with commas between: "tench, Tinca tinca".
        synsets: WordNet ids in the same order, such as "n01440764"; empty if they are not known.
    """

    def __init__(self, names: Sequence[str], synsets: Sequence[str] = ()):
        self.names, self.synsets = names, synsets
        self.whole: dict[tuple[str, ...], list[int]] = {}  # a name as people may write it
        self.parts: dict[str, list[int]] = {}  # one of several names, or a WordNet id
        for number, name in enumerate(names):
            self.whole.setdefault(key(name), []).append(number)
            some = key(name) if "," in name else ()
            for part in dict.fromkeys([*some, *map(str.casefold, synsets[number : number + 1])]):
                self.parts.setdefault(part, []).append(number)
        # Then a number is meant as a name: the class "10" of "1", "10", "2" is not number 10.
        digits = all(whole(name) is not None for name in names)
        self.are_numbers = digits and list(names) != [str(n) for n in range(len(names))]

    def find(self, text: str) -> int:
        """The number of the class that a text means.

        Raises:
            UsageError: none, or more than one; the message says what can be written.
        """
        wanted, how = (text, "") if key(text) in self.whole else prefix(text)
        named = [] if how == INDEX else self.called(wanted)
        by_number = how == INDEX or (how == "" and not self.are_numbers)
        number = self.numbered(wanted) if by_number else None
        if number is not None and named not in ([], [number]):
            raise self.two_readings(wanted, number, named)
        if number is None and len(named) > 1:
            raise self.several(wanted, named)
        if number is None and not named:
            raise self.unknown(wanted, how, by_number)
        return named[0] if number is None else number

    def prompted(self, prompt: str) -> int:
        """The number of the class that has a prompt for its name.

        Raises:
            UsageError: none has, or several have.
        """
        named = self.called(prompt)
        if len(named) > 1:
            raise self.several(prompt, named)
        if not named:
            raise UsageError(
                f"this model is told classes, not prompts, and none is called {short(prompt)!r}."
                f"{self.similar(prompt)} Classes: {self.some()}."
            )
        return named[0]

    def parse(self, line: str) -> list[int]:
        """The numbers of the classes in "0-9", "3,5", "Sneaker,Bag" or a mixture.

        Commas inside of a name do not part it, and nothing in double quotes is parted.

        Raises:
            UsageError: a name or number that is not known, or that can be read in two ways.
        """
        pieces = split(line)
        numbers: list[int] = []
        while pieces:
            count = self.pieces_of_a_name(pieces)
            text = ",".join(piece.text for piece in pieces[:count])
            between = None if pieces[0].quoted else self.between(text)
            numbers += [self.find(text)] if between is None else between
            pieces = pieces[count:]
        if not numbers:
            raise UsageError("no labels given; write numbers, ranges or names: 0-9 or 3,5 or Bag.")
        return numbers

    def pieces_of_a_name(self, pieces: Sequence[Piece]) -> int:
        """How many of the pieces at the beginning are one name with commas in it; 1 if none are.

        Raises:
            UsageError: they are one name together, and each is a class by itself.
        """
        loose = next((n for n, piece in enumerate(pieces) if piece.quoted), len(pieces))
        for count in range(loose, 1, -1):
            text = ",".join(piece.text for piece in pieces[:count])
            if text.strip().lower().startswith(NAME) and key(prefix(text)[0]) in self.whole:
                return count
            if key(text) not in self.whole:
                continue
            if all(self.stands_alone(piece.text) for piece in pieces[:count]):
                texts = [piece.text.strip() for piece in pieces[:count]]
                apart = ",".join(f'"{t}"' if key(t) in self.whole else INDEX + t for t in texts)
                raise UsageError(
                    f"{text.strip()!r} is the name of one class and a list of {count}: write "
                    f"'\"{text.strip()}\"' for the one, or '{apart}' for the list."
                )
            return count
        return 1

    def stands_alone(self, text: str) -> bool:
        """Whether a text is the whole name or the number of a class."""
        return key(text) in self.whole or self.numbered(text) is not None

    def called(self, text: str) -> list[int]:
        """The classes that a text names: those with that very name, else those with such a one."""
        exact = [number for number, name in enumerate(self.names) if name == text.strip()]
        if exact:
            return exact
        named = self.whole.get(key(text), [])
        if not named and self.are_numbers and (value := whole(text)) is not None:
            named = [number for number, name in enumerate(self.names) if int(name) == value]
        return named or self.parts.get(" ".join(key(text)), [])

    def numbered(self, text: str) -> int | None:
        """The class with a number; None for a text that is no number of a class."""
        number = whole(text)
        return number if number is not None and number < len(self.names) else None

    def between(self, text: str) -> list[int] | None:
        """The classes of a range such as "0-9" or "index:0-9"; None for another text.

        Raises:
            UsageError: it runs backwards, ends at a class that does not exist, or is a name too.
        """
        wanted, how = prefix(text)
        ends = None if how == NAME else RANGE.fullmatch(wanted.strip())
        named = [] if how == INDEX else self.called(text)
        if ends is None:
            return None
        first, last = whole(ends[1]), whole(ends[2])
        if named and (last is None or first is None or not first <= last < len(self.names)):
            return None  # as a range it would mean nothing
        if named:
            raise UsageError(
                f"{text.strip()!r} is the name of a class and a range of numbers: write "
                f"{NAME}{text.strip()} or {INDEX}{text.strip()}."
            )
        if first is not None and last is not None and first > last:
            raise UsageError(f"labels {text.strip()!r} run backwards; write {last}-{first}.")
        by_name = self.are_numbers and how != INDEX
        for end in ends.groups():  # both exist
            self.find(end if by_name else INDEX + end)
        assert first is not None and last is not None
        if not by_name:
            return list(range(first, last + 1))
        inside = [n for n, name in enumerate(self.names) if first <= int(name) <= last]
        return sorted(inside, key=lambda number: int(self.names[number]))

    def described(self, number: int) -> str:
        """How to write a class so that nothing else can be meant, and what it is called."""
        return f"{INDEX}{number} ({self.names[number]!r})"

    def two_readings(self, text: str, number: int, named: list[int]) -> UsageError:
        names = " and ".join(self.described(other) for other in named)
        return UsageError(
            f"class {short(text)!r} is ambiguous: write {self.described(number)} for the class "
            f"with that number, or {NAME}{text.strip()} for the one called so, {names}."
        )

    def several(self, text: str, named: list[int]) -> UsageError:
        known = ", ".join(self.told_apart(number, named) for number in named[:SOME])
        return UsageError(
            f"class {short(text)!r} is ambiguous: {len(named)} classes are called so. Write one of "
            f"{known}."
        )

    def told_apart(self, number: int, others: list[int]) -> str:
        """`described`; of a class whose whole name others have too, with what else is known.

        Its WordNet id, and the classes before and after it: many lists put like beside like.
        """
        name = self.names[number]
        if sum(key(self.names[other]) == key(name) for other in others) < 2:
            return self.described(number)
        at = [n for n in (number - 1, number + 1) if 0 <= n < len(self.names)]
        beside = [repr(self.names[n].split(",")[0]) for n in at if key(self.names[n]) != key(name)]
        facts = [repr(name), *self.synsets[number : number + 1]]
        facts += [f"beside {' and '.join(beside)}"] if beside else []
        return f"{INDEX}{number} ({', '.join(facts)})"

    def unknown(self, text: str, how: str, by_number: bool) -> UsageError:
        last = len(self.names) - 1
        if by_number and NUMBER.fullmatch(text.strip()):
            return UsageError(f"class {short(text)} does not exist; this model knows 0-{last}.")
        if how == INDEX:
            return UsageError(
                f"after {INDEX} comes a number from 0 to {last}, got {short(text)!r}."
            )
        number = self.numbered(text)
        if number is not None and how == "":  # the names are numbers, and this is none of them
            hint = f" By number: {self.described(number)}."
        else:
            hint = self.similar(text)
        return UsageError(f"there is no class {short(text)!r}.{hint} Classes: {self.some()}.")

    def similar(self, text: str) -> str:
        """A question that names the class called most like a text; "" if none is."""
        wanted = text.strip()[:MOST_SHOWN]
        return did_you_mean(wanted, self.clear_words(), SIMILAR, any_case=True)

    def some(self) -> str:
        """The first names."""
        between = "; " if any("," in name for name in self.names) else ", "
        return between.join([*self.names[:SOME], *(["..."] if len(self.names) > SOME else [])])

    def clear_words(self) -> list[str]:
        """Every name and WordNet id that means one class alone."""
        names = [name for name in self.names if len(self.whole[key(name)]) == 1]
        return names + [part for part, numbers in self.parts.items() if len(numbers) == 1]


def key(name: str) -> tuple[str, ...]:
    """A name without what does not count, parted at its commas."""
    # Folders of a Mac hold "é" as two characters, keyboards give one.
    name = unicodedata.normalize("NFC", name)
    return tuple(" ".join(part.split()).casefold() for part in name.split(","))


def prefix(text: str) -> tuple[str, str]:
    """A text without the prefix that says how it is meant, and the prefix or ""."""
    for how in (INDEX, NAME):
        if text.strip().lower().startswith(how):
            return text.strip()[len(how) :], how
    return text, ""


def split(line: str) -> list[Piece]:
    """What stands between the commas of a line that are not in quotes; nothing that is empty."""
    pieces = []
    at = 0
    while at < len(line):
        match = PIECE.match(line, at)
        assert match is not None  # the second way fits every text
        quoted = match[1] is not None
        text = match[1].replace('""', '"') if quoted else match[2]
        if text.strip():
            pieces.append(Piece(text, quoted))
        at = match.end()
    return pieces


def whole(text: str) -> int | None:
    """The number that a text of digits stands for; None for another or an endless one."""
    digits = text.strip()
    if not NUMBER.fullmatch(digits) or len(digits) > MOST_DIGITS:
        return None
    return int(digits)


def short(text: str) -> str:
    """A text for a message, cut off if it is very long."""
    text = text.strip()
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."
