"""Damage and oddities, each from a seeded generator: of bytes, of JSON-like trees, of names."""

import copy
import json
import math
import struct
from random import Random
from typing import Any

DEEP = 3000  # levels: more than Python's limit of recursion
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**12, 10**30, int("9" * 4000)),
    *(0.5, -0.0, 1e308, math.inf, -math.inf, math.nan),
    *("", " ", "0", "-1", "nan", "1e9", "None", "../..", "/etc/passwd", "a" * 5000, "\x00", "\n"),
    *("Zürich", "猫", "\u202eabc", "\ud800", "\U0001f600", "%s%n", "{}", "*", "[a-z]", "a\tb"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": []}}, list(range(100)), [1.5, "x", None]),
]
NAMES = [
    *("a b.png", "Zürich.png", "猫.jpg", ".hidden.png", "[1].png", "*.png", "%20.png", "a\nb.png"),
    *(
        "no_ending",
        "x.PNG",
        "x.tiff",
        "x.gif",
        "x.svg",
        "x.png.tmp",
        "Thumbs.db",
        "x" * 200 + ".png",
    ),
    *("train", "val", "1e9", "00000000000000000001.png", "-1.png", "test_0.png", "x.json", "x.cls"),
]


def damaged(content: bytes, random: Random) -> bytes:
    """The bytes with one or a few places changed, cut, doubled or filled."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 3, 20))):
        where = random.randrange(len(data) + 1)
        length = random.choice((1, 4, 64, max(1, len(data) // 3)))
        match random.randrange(9):
            case 0:
                data[where : where + 1] = bytes([random.randrange(256)])
            case 1:
                del data[where:]
            case 2:
                del data[where : where + length]
            case 3:
                data[where : where + length] = bytes(length)
            case 4:
                data[where:where] = random.randbytes(length)
            case 5:
                data[where:where] = data[where : where + length]
            case 6:
                number = random.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1))
                data[where : where + 8] = struct.pack(random.choice("<>") + "Q", number)
            case 7 if data:
                place = random.randrange(len(data))
                data[place] ^= 1 << random.randrange(8)
            case _ if random.random() < 0.2:
                data.clear()
    return bytes(data)


def odd(random: Random) -> Any:
    """A value that nobody expected."""
    return copy.deepcopy(random.choice(ODD))


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every part of a tree, the whole first."""
    found = [path]
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        inner = places(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]
        found += inner
    return found


def twisted(tree: Any, random: Random) -> Any:
    """A copy of a tree with a part replaced, left out, renamed, doubled or wrapped."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 5))):
        *parents, last = random.choice(places(tree)[1:] or [("x",)])
        holder = tree
        for key in parents:
            holder = holder[key]
        try:
            match random.randrange(6):
                case 0 | 1 | 2:
                    holder[last] = odd(random)
                case 3:
                    del holder[last]
                case 4:
                    holder[last] = [holder[last], holder[last]]
                case 5 if isinstance(holder, dict):
                    holder[f"{last}_"] = holder.pop(last)
        except (IndexError, KeyError, TypeError):  # what is changed already
            return odd(random)
    return odd(random) if random.random() < 0.03 else tree


def json_damaged(content: bytes, random: Random) -> bytes:
    """A JSON text twisted; what is none any more is damaged further."""
    try:
        return as_json(json.loads(content), random)
    except (ValueError, RecursionError):
        return damaged(content, random)


def as_json(tree: Any, random: Random) -> bytes:
    """The text of a twisted tree; now and then deep, doubled, in another encoding, or damaged."""
    text = json.dumps(twisted(tree, random)).encode("utf-8", "surrogatepass")
    match random.randrange(12):
        case 0:
            return b"[" * DEEP + b"]" * DEEP
        case 1:
            return text.replace(b"{", b'{"seed": 1, "seed": 2, ', 1)
        case 2:
            return text.decode("utf-8", "replace").encode("utf-16")
        case 3 | 4:
            return damaged(text, random)
    return text
