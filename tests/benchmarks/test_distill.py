"""What `benchmarks/distill.py` trains and measures, and its part of docs/linearize.md."""

import json

import pytest
from PIL import Image
from shapes import write_shapes

from gensynth_benchmarks import distill, text
from gensynth_benchmarks.distill_runs import table
from gensynth_benchmarks.measuring import ROOT, circumstances
from gensynth_benchmarks.text_runs.pictures import GAP, HEAD, ZOOM

ABOUT = {
    "device": "cpu-9-threads",
    "date": "today",
    "torch": "2",
    "diffusers": "1",
    "commit": "c",
    "command": "python benchmarks/distill.py",
    "miniature": False,
}
PARTS = {
    "data": [[10, 0.5], [20, 0.4]],
    "output": [[10, 0.2], [20, 0.1]],
    "attention": [[10, 0.09], [20, 0.003]],
}


def measured(name, distance, **others):
    score = {"standard_error": 2.0, "floor": 40.0, "samples": 400}
    return {"row": name, "distance": distance, **score, "retrieval_1": 0.5, **others}


def test_students_stand_beside_their_teacher():
    rows = [measured("teacher", 100.0), measured("clear after", 108.0, parts=PARTS, steps=20)]
    lines = table.table(rows, ABOUT).rows
    assert [line[0] for line in lines] == [*table.TITLES.values(), "real pictures"]
    assert lines[0][1:4] == ["100.0 ± 2.0", "100.0%", "50.0%"]
    assert lines[1][1] == "not measured yet"
    assert lines[4][1:3] == ["108.0 ± 2.0", "108.0%"]
    (said,) = table.falls(rows)
    assert "of the attentions from 0.09 to 0.0465 (1.9 times)" in said  # the mean of both entries


def test_the_page_is_current():
    page = (ROOT / table.PART.page).read_text(encoding="utf-8")
    assert table.PART.put_into(page, ROOT / "benchmarks" / "results") == page, (
        "python benchmarks/distill.py --table"
    )


def test_a_result_names_no_place_of_its_machine(monkeypatch):
    given = ["/anywhere/distill.py", "--work", "/home/someone/runs/text", "--steps", "4"]
    monkeypatch.setattr("sys.argv", given)
    assert circumstances("cpu")["command"] == "python benchmarks/distill.py --work text --steps 4"


def test_refusals(capsys, tmp_path):
    with pytest.raises(SystemExit):
        distill.main(["--miniature"])
    assert "give a trial an --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        distill.main(["--work", str(tmp_path), "--out", str(tmp_path)])
    assert "do so first: python benchmarks/text.py --rows dit-softmax" in capsys.readouterr().err


@pytest.mark.slow
def test_whole_in_miniature(tmp_path, capsys):
    write_shapes(tmp_path / "data")
    given = ["--miniature", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    text.main([*given, "--steps", "2", "--rows", "dit-softmax"])
    command = [*given, "--teacher-steps", "2", "--steps", "2"]
    distill.main(command)
    content = json.loads((tmp_path / "out" / "distill.json").read_text())
    assert [row["row"] for row in content["rows"]] == table.ROWS
    for row in content["rows"]:
        assert "failed" not in row and row["distance"] > 0 and row["samples"] == 4
        assert ("parts" in row) == row["row"].endswith("after")
    with Image.open(tmp_path / "out" / table.SHEET) as opened:
        assert opened.height == HEAD + 6 * (64 * ZOOM + GAP), "the truth and five rows"
    assert (tmp_path / "out" / table.CURVE).is_file()
    said = capsys.readouterr().out
    assert "CLEAR, distilled, 2 steps: the squared error" in said
