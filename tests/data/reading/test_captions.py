"""What captions are, and where those of a folder lie: in a `.txt` beside each, or in a table."""

import json
from collections import Counter

import pytest

from gensynth.config import Data
from gensynth.data.reading.captions import captions_of, chosen_caption, lines_of
from gensynth.data.reading.contents import in_words
from gensynth.data.sources import open_source
from gensynth.errors import InputError, UsageError

NAN = float("nan")


def opened(folder, **settings):
    return open_source(Data(source="imagefolder", path=str(folder), **settings), texts=True)


def told(source):
    return {row["image"]["path"].rpartition("/")[2]: row["text"] for row in source.rows}


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        (" a red apple \n", ["a red apple"]),
        (["one", "", None, " two "], ["one", "two"]),
        ("  ", []),
        (None, []),
        (NAN, []),
        ([], []),
        ("un café".encode(), ["un café"]),
        (["a", ["b", "a"]], ["a", "b", "a"]),
        ("ein\nAbsatz", ["ein Absatz"]),
        ("cafe\u0301,  a\u00a0cup", ["caf\u00e9, a cup"]),
        ("\u732b \U0001f431", ["\u732b \U0001f431"]),
    ],
)
def test_what_a_value_says(value, captions):
    assert captions_of(value) == captions


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "values of type int"),
        ({"raw": "a cat"}, r"fields \(such as .*a cat"),
        ([1.5], "values of type float"),
        (b"\xff\xfe", "bytes that are no text"),
        ("half \ud83d", "halves of characters"),
    ],
)
def test_what_is_no_caption_is_refused_in_words(value, words):
    with pytest.raises(UsageError, match=rf"captions in the text column are {words}") as caught:
        captions_of(value)
    assert "data.text_column" in str(caught.value)
    str(caught.value).encode()


def test_lines_of_a_file_are_captions():
    assert lines_of(b"\xef\xbb\xbfa cat\r\n\r\n  a tabby \n", "a.txt") == ["a cat", "a tabby"]
    with pytest.raises(InputError, match=r"a\.txt is no text in UTF-8"):
        lines_of(b"caf\xe9", "a.txt")


def test_the_caption_told_is_a_function_of_seed_and_position():
    three = ["a", "b", "c"]
    drawn = [chosen_caption(three, 5, position) for position in range(3000)]
    assert drawn == [chosen_caption(three, 5, position) for position in range(3000)]
    assert drawn != [chosen_caption(three, 6, position) for position in range(3000)]
    assert all(900 < count < 1100 for count in Counter(drawn).values())
    assert chosen_caption(["only"], 5, 8) == "only"


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_beside_pictures(lay_out, streaming):
    folder = lay_out("x/a.png", "x/b.PNG", "deep/er/c.png", "d.png", "e.png")
    (folder / "x" / "a.txt").write_text("a grey square\nsomething grey\n")
    (folder / "x" / "b.txt").write_text("an image", encoding="utf-8-sig")
    (folder / "deep" / "er" / "c.TXT").write_text("far below")
    (folder / "d.txt").write_text(" \n")
    (folder / "read me.txt").write_text("about this folder")
    source = opened(folder, streaming=streaming)
    assert told(source) == {
        "a.png": ["a grey square", "something grey"],
        "b.PNG": ["an image"],
        "c.png": ["far below"],
    }
    assert source.captioned and source.streamed == streaming
    assert "without a caption: 2 (d.png, e.png)" in source.summary
    assert "other files: 1 (read me.txt)" in source.summary
    if not streaming:
        assert source.summary.startswith('3 pictures with captions (such as "far below" and "a g')
        assert list(source.captions())[1] == ["a grey square", "something grey"]
        assert source.labels() is None


def test_two_formats_of_one_name_share_a_text(lay_out):
    folder = lay_out("a.png", "a.jpg")
    (folder / "a.txt").write_text("twice")
    assert told(opened(folder)) == {"a.png": ["twice"], "a.jpg": ["twice"]}


def test_captions_of_a_table(lay_out):
    folder = lay_out("train/a.png", "train/b.png", "val/a.png")
    rows = 'file_name,caption\na.png,"a cat, sitting"\na.png,a tabby\na.png,tiger\nb.png,\n'
    (folder / "train" / "metadata.csv").write_text(rows)
    (folder / "train" / "b.txt").write_text("not read, since there is a table")
    source = opened(folder)
    assert told(source) == {"a.png": ["a cat, sitting", "a tabby", "tiger"]}
    assert "Captions by the column caption of the metadata." in source.summary
    assert "Split train of train/, val/" in source.summary


def test_captions_of_json_lines_in_a_column_of_ones_own(lay_out):
    folder = lay_out("a.png", "b.png")
    lines = [
        {"file_name": "a.png", "text": "no", "de": ["ein Hund", "Hund"]},
        {"file_name": "b.png", "text": "no", "de": "eine Katze"},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = opened(folder, text_column="de")
    assert told(source) == {"a.png": ["ein Hund", "Hund"], "b.png": ["eine Katze"]}
    with pytest.raises(UsageError, match="'fr' is not one of the columns: text, de"):
        opened(folder, text_column="fr")


def test_rows_that_differ_in_more_than_captions_are_refused(lay_out):
    folder = lay_out("a.png")
    (folder / "metadata.csv").write_text("file_name,text,label\na.png,x,1\na.png,y,2\n")
    with pytest.raises(InputError, match=r"line 3: another row says something else of a\.png"):
        opened(folder)


def test_several_captions_in_a_table_do_not_disturb_its_classes(lay_out):
    folder = lay_out("a.png")
    (folder / "metadata.csv").write_text("file_name,text,label\na.png,x,cat\na.png,y,cat\n")
    source = open_source(Data(source="imagefolder", path=str(folder)))
    assert source.classes == ["cat"] and "text" not in source.rows[0]


def test_class_folders_are_no_captions_and_the_advice_works(lay_out):
    folder = lay_out("cat/a.png", "dog/a.png")
    with pytest.raises(UsageError, match=r"no captions: no \.txt .* no metadata\.csv") as caught:
        opened(folder)
    assert "condition.kind=classes" in str(caught.value) and "\n" not in str(caught.value)
    assert open_source(Data(source="imagefolder", path=str(folder))).classes == ["cat", "dog"]
    (folder / "metadata.csv").write_text("file_name,age,name\ncat/a.png,3,Tom\n")
    with pytest.raises(UsageError, match="its columns are age, name"):
        opened(folder)
    assert told(opened(folder, text_column="name")) == {"a.png": ["Tom"]}


def test_a_column_without_words_is_named(lay_out):
    folder = lay_out("a.png")
    (folder / "metadata.csv").write_text("file_name,text\na.png,\n")
    with pytest.raises(UsageError, match="the column text of their metadata is empty"):
        opened(folder)


def test_texts_that_are_there_are_spoken_of_in_a_run_on_classes(lay_out):
    folder = lay_out("cat/a.png", "dog/a.png")
    (folder / "cat" / "a.txt").write_text("a cat")
    source = open_source(Data(source="imagefolder", path=str(folder)))
    assert "Captions (.txt) are not used; a run with condition.kind=text would." in source.summary
    assert "other files: 1 (cat/a.txt)" in source.summary


def test_a_caption_is_named_once():
    assert in_words(2, None, captions=["a cat", "a cat"]) == (
        '2 pictures with captions (such as "a cat").'
    )
