"""What people call classes: names win, and what can mean two classes is refused with both."""

import json
import unicodedata

import pytest

from gensynth.conditions import Classes
from gensynth.errors import CorruptError, UsageError

BIRDS = [
    "tench, Tinca tinca",
    "goldfish, Carassius auratus",
    "lesser panda, red panda, panda",
    "giant panda, panda, coon bear",
    "crane",
    "crane",
]
SYNSETS = ["n01440764", "n01443537", "n02509815", "n02510455", "n02012849", "n03126707"]
IMAGENET = Classes(BIRDS, 6, SYNSETS)
# Folders 1 to 12 in the order of their letters.
FOLDERS = Classes(sorted(map(str, range(1, 13))), 12)
MIXED = Classes(["3", "Cat", "Dog", "b", "index"], 5)
AGES = Classes(["0-2", "3-9", "10-19", "older"], 4)
COMMAS = Classes(["a", "b", "a, b", "1, 2", 'say "hi"', "name:x"], 6)


@pytest.mark.parametrize(
    ("classes", "text", "numbers"),
    [
        (IMAGENET, "tench, Tinca tinca", [0]),
        (IMAGENET, "TENCH,tinca   TINCA", [0]),
        (IMAGENET, "tench", [0]),
        (IMAGENET, "Carassius auratus,tench", [1, 0]),
        (IMAGENET, "goldfish, Carassius auratus, tench, Tinca tinca, 3", [1, 0, 3]),
        (IMAGENET, '"tench, Tinca tinca","red panda"', [0, 2]),
        (IMAGENET, "n02510455,N01440764", [3, 0]),
        (IMAGENET, "index:5, name:coon bear", [5, 3]),
        (IMAGENET, "name:tench, Tinca tinca,index:2-4", [0, 2, 3, 4]),
        (FOLDERS, "1", [0]),
        (FOLDERS, "10,2", [1, 4]),
        (FOLDERS, "1-3", [0, 4, 5]),  # those called so, in the order of their numbers
        (FOLDERS, "index:1-3", [1, 2, 3]),
        (FOLDERS, "index:1", [1]),
        (FOLDERS, "name:12", [3]),
        (FOLDERS, "02", [4]),
        (Classes(["01", "02", "10"], None), "2,10", [1, 2]),
        (Classes([*"0123456789"], 10), "03,7", [3, 7]),
        (MIXED, "0,1,cat", [0, 1, 1]),
        (MIXED, "index:3", [3]),
        (MIXED, "name:3", [0]),
        (MIXED, "INDEX: 3 ,Name: 3", [3, 0]),
        (MIXED, "index", [4]),
        (AGES, "3-9,10-19", [1, 2]),  # as ranges of numbers they would mean nothing
        (AGES, "name:0-2", [0]),
        (AGES, "index:0-2", [0, 1, 2]),
        (AGES, "1-3", [1, 2, 3]),
        (COMMAS, '"a, b"', [2]),
        (COMMAS, '"a","b"', [0, 1]),
        (COMMAS, "name:a, b", [2]),
        (COMMAS, "b,a", [1, 0]),
        (COMMAS, "index:1,index:2", [1, 2]),
        (COMMAS, 'say "hi"', [4]),
        (COMMAS, '"say ""hi""",a', [4, 0]),
        (COMMAS, "name:x", [5]),
        (Classes(["Cat", "cat"], None), "cat,Cat", [1, 0]),
        (Classes([unicodedata.normalize("NFD", "Zürich")], None), "zürich", [0]),
    ],
)
def test_what_is_meant(classes, text, numbers):
    assert classes.parse(text) == numbers
    if len(numbers) == 1 and '"' not in text:
        assert classes.item(text) == numbers[0]


@pytest.mark.parametrize(
    ("classes", "text", "readings"),
    [
        (MIXED, "3", {"index:3": 3, "name:3": 0}),
        (IMAGENET, "panda", {"index:2": 2, "index:3": 3}),
        (IMAGENET, "crane", {"index:4": 4, "index:5": 5, "n02012849": 4, "n03126707": 5}),
        (IMAGENET, "name:crane", {"index:4": 4, "index:5": 5, "n02012849": 4, "n03126707": 5}),
        (Classes(["one, 1", "two, 2"], 2), "1", {"index:1": 1, "name:1": 0}),
        (Classes(["CAT", "Cat"], 2), "cat", {"index:0": 0, "index:1": 1}),
        (FOLDERS, "0", {"index:0": 0}),
    ],
)
def test_what_can_mean_two_is_refused_and_says_how_to_write_each(classes, text, readings):
    for read in (classes.item, classes.parse):
        with pytest.raises(UsageError) as refused:
            read(text)
        for words, number in readings.items():
            assert words in str(refused.value)
            assert classes.item(words) == number


@pytest.mark.parametrize(
    ("names", "text", "words"),
    [
        (
            ["bat", "dog", "bat"],
            "bat",
            "index:0 ('bat', beside 'dog'), index:2 ('bat', beside 'dog')",
        ),
        (
            ["owl", "bat", "cap, hat", "Bat", "net"],
            "BAT",
            "index:3 ('Bat', beside 'cap' and 'net')",
        ),
        (["bat", "bat"], "bat", "index:0 ('bat'), index:1 ('bat')"),
    ],
)
def test_classes_of_one_name_are_told_apart_by_their_neighbours(names, text, words):
    with pytest.raises(UsageError) as refused:
        Classes(names, None).item(text)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("classes", "text", "readings"),
    [
        (AGES, "0-2", {"name:0-2": [0], "index:0-2": [0, 1, 2]}),
        (COMMAS, "a,b", {'"a,b"': [2], '"a","b"': [0, 1]}),
        (COMMAS, "1, 2", {'"1, 2"': [3], "index:1,index:2": [1, 2]}),
    ],
)
def test_a_name_that_could_be_a_list_is_refused_and_says_how_to_write_each(classes, text, readings):
    with pytest.raises(UsageError) as refused:
        classes.parse(text)
    for words, numbers in readings.items():
        assert words in str(refused.value)
        assert classes.parse(words) == numbers


@pytest.mark.parametrize(
    ("classes", "text", "words"),
    [
        (IMAGENET, "tnech", "Did you mean 'tench'"),
        (IMAGENET, "GOLDFSH", "Did you mean 'goldfish'"),
        (IMAGENET, "n0144076", "Did you mean 'n01440764'"),
        (IMAGENET, "6", "class 6 does not exist; this model knows 0-5"),
        (IMAGENET, "index:tench", "after index: comes a number from 0 to 5, got 'tench'"),
        (IMAGENET, "name:3", "there is no class '3'"),
        (IMAGENET, "0-9999999999999999999", "class 9999999999999999999 does not exist"),
        (IMAGENET, "9" * 5000, "class 999.*does not exist"),
        (FOLDERS, "13", "there is no class '13'"),
        (FOLDERS, "0-2", "there is no class '0'.*index:0"),
        (Classes(["0", "1"], 2), "2", "class 2 does not exist; this model knows 0-1"),
    ],
)
def test_what_means_nothing_is_refused(classes, text, words):
    with pytest.raises(UsageError, match=words) as refused:
        classes.parse(text)
    assert len(str(refused.value)) < 500
    if "Did you mean" in words:  # and the advice works
        classes.parse(str(refused.value).split("Did you mean '")[1].split("'")[0])


def test_wordnet_ids_are_kept_beside_the_names(tmp_path):
    IMAGENET.save(tmp_path)
    assert json.loads((tmp_path / "synsets.json").read_text()) == SYNSETS
    again = Classes([*"012345"], 6).load(tmp_path)
    assert (again.names, again.synsets) == (BIRDS, SYNSETS)
    assert again.choices()[0] == ("0 · tench, Tinca tinca · n01440764", 0)
    (tmp_path / "synsets.json").write_text('["n01440764"]')
    with pytest.raises(CorruptError, match="a list of 6 WordNet ids"):
        Classes([*"012345"], 6).load(tmp_path)
    (tmp_path / "synsets.json").unlink()
    assert Classes([*"012345"], 6).load(tmp_path).synsets == []
    FOLDERS.save(tmp_path)
    assert not (tmp_path / "synsets.json").exists()


def test_classes_are_searched_by_words_of_their_names_and_ids():
    def found(text):
        return [item for _, item in IMAGENET.search(text)]

    assert found("panda") == [2, 3]
    assert found("PANDA coon") == [3]
    assert found("n0144") == [0, 1]
    assert found("") == [0, 1, 2, 3, 4, 5]
    assert found("whale") == []
