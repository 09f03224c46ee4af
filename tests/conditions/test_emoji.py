"""Emoji by their names."""

import json

import pytest

from gensynth.conditions.emoji import NAMES, in_words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("🍎, fluent", "red apple, fluent"),
        ("😀", "grinning face"),
        ("😂 twice", "face with tears of joy twice"),
        ("a 🍎🍏 pie", "a red apple green apple pie"),
        ("x❤️y", "x red heart y"),  # not the "heavy black heart" of the character's name
        ("☀", "sun"),
        ("(🚀)", "(rocket)"),
        (
            "🇩🇪 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "flag: Germany flag: England",
        ),
        ("5️⃣, noto", "keycap: 5, noto"),
        ("👋🏽", "waving hand"),
        ("👩🏽‍🚀", "woman astronaut"),  # a sequence has a name of its own
        ("🧑‍🍎", "person red apple"),  # none: those of its parts
    ],
)
def test_an_emoji_is_its_name(text, said):
    assert in_words(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "red apple",
        "猫の顔",
        "©2020 ™",
        "a → b",
        "1, 2 # *",
        "🏽",
        "\ufe0f",
        "a\u200db",
        "café",
        "🇩",
    ],
)
def test_all_else_stays_as_it_is(text):
    assert in_words(text) == text


def test_a_known_emoji_stays():
    assert in_words("🍎🍏", lambda emoji: emoji == "🍎") == "🍎 green apple"


def test_the_list_of_names_is_whole():
    lines = [line for line in NAMES.read_text(encoding="utf-8").splitlines() if "\t" in line]
    assert len(lines) > 900
    for line in lines:
        emoji, name = line.split("\t")
        assert in_words(emoji) == name, json.dumps(line)
