"""Files of prompts."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from gensynth.conditions.prompt_files import read_prompts
from gensynth.errors import InputError, UsageError


def test_each_line_of_a_text_is_a_prompt(tmp_path):
    file = tmp_path / "some.TXT"
    file.write_bytes("\ufeffred apple, fluent\r\n\r\n  猫の顔 \nlast".encode())
    assert read_prompts(file) == ["red apple, fluent", "猫の顔", "last"]


def test_rows_of_a_csv(tmp_path):
    file = tmp_path / "some.csv"
    file.write_text('id,caption\n1,"red apple, fluent"\n2,\n3,"two\nlines"\n', encoding="utf-8")
    assert read_prompts(file) == ["red apple, fluent", "", "two\nlines"]


def test_a_column_called_prompt_wins(tmp_path):
    file = tmp_path / "some.csv"
    file.write_text("text,prompt\nwhat is seen,what to draw\n")
    assert read_prompts(file) == ["what to draw"]


def test_rows_of_json_lines(tmp_path):
    rows = [{"text": "one"}, {"id": 2}, {"text": ["first", "second"]}, {"text": None}, "bare"]
    file = tmp_path / "some.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_prompts(str(file)) == ["one", "", "first", "", "bare"]


def test_rows_of_parquet_without_the_pictures(tmp_path):
    file = tmp_path / "some.parquet"
    pictures = [{"bytes": b"no picture", "path": None}] * 3
    table = pa.table({"image": pictures, "captions": [["a", "b"], [], None]})
    parquet.write_table(table, file)
    assert read_prompts(file) == ["a", "", ""]


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.docx", b"x", UsageError, r"read from \.txt, \.csv, \.jsonl, \.parquet, not from"),
        ("a.txt", b"\n \n", InputError, "holds no prompts"),
        ("a.txt", b"caf\xe9", InputError, "is not in UTF-8"),
        ("a.csv", b"", UsageError, r"columns \(none\)"),
        ("a.csv", b"promt,b\n1,2\n", UsageError, "Did you mean 'prompt'?"),
        ("a.csv", b"prompt\n", InputError, "holds no prompts"),
        ("a.csv", b'prompt\n"open', InputError, "line 2, is no CSV"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}', InputError, "row 2: a prompt is a text, got 3"),
        ("a.jsonl", b"{", InputError, "line 1, is no JSON"),
        ("a.jsonl", b"[1]", InputError, "line 1, is neither"),
        ("a.jsonl", b"[" * 100_000, InputError, "line 1, is no JSON"),
        ("a.parquet", b"PAR1", InputError, "is no Parquet file"),
        ("a.parquet", b"", InputError, "is no Parquet file"),
    ],
)
def test_what_is_no_file_of_prompts(tmp_path, name, content, kind, words):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(kind, match=words) as found:
        read_prompts(file)
    assert str(file) in str(found.value)


def test_no_such_file(tmp_path):
    for name in ("no.txt", "no.csv", "no.jsonl", "no.parquet"):
        with pytest.raises(InputError, match=r"cannot be read: .*[Nn]o such file"):
            read_prompts(tmp_path / name)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_prompts(tmp_path / "folder.txt")
