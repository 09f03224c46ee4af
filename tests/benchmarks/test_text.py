"""The table of texts: equal parameters, rows that are kept, a page that is current."""

import json
from pathlib import Path

import pytest
from PIL import Image
from shapes import write_shapes

from gensynth.errors import InputError
from gensynth_benchmarks import text
from gensynth_benchmarks.measuring import ROOT
from gensynth_benchmarks.text_runs import recipes, rows, table
from gensynth_benchmarks.text_runs.page import NOTHING
from gensynth_benchmarks.text_runs.pictures import GAP, HEAD, MARGIN, ZOOM, sheet, shown, strip
from gensynth_benchmarks.text_runs.recipes import CONFIG, ROWS, TITLES, Trial, counted

ABOUT = {
    "device": "cpu-9-threads",
    "date": "today",
    "torch": "2",
    "diffusers": "1",
    "commit": "c",
    "command": "python benchmarks/text.py",
    "miniature": False,
    "steps": 4000,
    "batch_size": 64,
}


def measured(name: str, distance: float, retrieval: float, **others) -> dict:
    return {
        "row": name,
        "parameters": 5_327_464,
        "multiply_adds": 27_696_640,
        "images_per_second": 123.4,
        "loss": 0.51,
        "distance": distance,
        "standard_error": 3.0,
        "floor": 40.0,
        "samples": 400,
        "retrieval_1": retrieval,
        "retrieval_1_real": 0.75,
        **others,
    }


@pytest.fixture(scope="module")
def counts() -> dict[str, dict]:
    trial = Trial(Path("nowhere"), Path("nowhere"))
    return {name: counted(trial.experiment(name)) for name in ROWS}


def test_rows_have_equal_parameters(counts):
    """All within 3 % of each other; and without the text encoder within 3 % of the first."""
    assert {found["encoder_parameters"] for found in counts.values()} == {1_927_872}
    totals = [found["parameters"] for found in counts.values()]
    assert max(totals) < 1.03 * min(totals)
    rest = [total - 1_927_872 for total in totals]
    assert all(abs(other / rest[0] - 1) < 0.03 for other in rest)


def test_rows_differ_in_what_they_are_called_by():
    trial = Trial(Path("nowhere"), Path("nowhere"))
    whole = {name: trial.experiment(name) for name in ROWS}
    assert [one.condition.cross for one in whole.values()] == [True, False] + [True] * 4
    shared = {one.training.steps for one in whole.values()} | {
        one.optimizer.lr for one in whole.values()
    }
    assert len(shared) == 2, "the budget is one"
    mixers = [(one.model.model_extra or {}).get("mixer") for one in whole.values()]
    assert mixers == [None] * 4 + ["linear", "local"]


def test_the_recipe_says_how_to_train_each_row():
    words = CONFIG.read_text(encoding="utf-8")
    for overrides in ROWS.values():
        for override in overrides:
            key, _, value = override.partition("=")
            assert (f"{key}='{value}'" if value.startswith("{") else override) in words


def test_the_page_is_current():
    page = (ROOT / table.PART.page).read_text(encoding="utf-8")
    assert table.PART.put_into(page, ROOT / "benchmarks" / "results") == page, (
        "python benchmarks/text.py --table"
    )


def test_table():
    """The best first, real pictures below, then what failed and what is missing, with why."""
    found = [
        measured("dit-local", 130.0, 0.2, standard_error=None),
        measured("dico", 100.0, 0.5),
        {"row": "dic", "failed": "out of memory"},
    ]
    lines = table.table(found, ABOUT).rows
    assert [line[0] for line in lines[:3]] == ["DiCo", "DiT, local", "real pictures"]
    assert lines[0][1:7] == ["5.33", "28", "123", "0.5100", "100.0 ± 3.0", "50.0%"]
    assert lines[1][5] == "130.0"
    assert lines[2][5:8] == ["40.0", "75.0%", ""]
    assert [line[:2] for line in lines[3:5]] == [
        [TITLES["dico-pooled"], "not measured yet"],
        ["DiC", "out of memory"],
    ]
    assert len(lines) == len(ROWS) + 1
    assert {len(line) for line in lines} == {len(table.COLUMNS)}


def test_the_ablation_says_which_way_and_whether_it_is_chance():
    both, pooled = measured("dico", 100.0, 0.5), measured("dico-pooled", 120.0, 0.52)
    (said,) = table.ablation([both, pooled])
    # two standard errors: 2 * sqrt(3² + 3²), and 2 * sqrt(0.25 / 400 + 0.2496 / 400)
    assert "FD lower by 20.0, more than two standard errors (8.5)" in said
    assert "Retrieval@1 lower by 2.0%, not more than two standard errors (7.1%)" in said
    (said,) = table.ablation([{**both, "distance": 121.0}, pooled])
    assert "FD higher by 1.0, not more" in said
    (said,) = table.ablation([{**both, "standard_error": None}, pooled])
    assert "FD lower by 20.0 (of unknown error)" in said
    assert table.ablation([both]) == []


def test_the_page_takes_results_but_no_trials(tmp_path):
    page = f"before\n{table.PART.begin}\nold\n{table.PART.end}\nafter\n"
    assert NOTHING in table.PART.put_into(page, tmp_path)
    for device, miniature in (("a", False), ("b", True)):
        content = ABOUT | {"device": device, "miniature": miniature}
        (tmp_path / device).mkdir()
        content["rows"] = [measured("dico", 100.0, 0.5)]
        (tmp_path / device / "text.json").write_text(json.dumps(content))
    (tmp_path / "a" / table.SHEET).touch()
    made = table.PART.put_into(page, tmp_path)
    assert "| DiCo | 5.33 |" in made and made.count("### Emoji at 64x64, 4,000 steps") == 1
    assert f"(../benchmarks/results/a/{table.SHEET})" in made and "old" not in made
    assert table.PART.put_into(made, tmp_path) == made
    with pytest.raises(InputError, match=r"docs/text\.md needs one line"):
        table.PART.put_into("nothing", tmp_path)


def test_pictures_stand_under_their_prompt_and_behind_their_name():
    assert shown(475) == [0, 59, 118, 177, 236, 295, 354, 413] and shown(3) == [0, 1, 2]
    colours = ["red", "green"]
    red_green = strip([Image.new("RGB", (8, 8), colour) for colour in colours])
    blue = strip([Image.new("RGB", (8, 8), "blue")] * 2)
    made = sheet({"first": red_green, "second": blue}, ["a", "a very long prompt, " * 9])
    step = 8 * ZOOM + GAP
    assert made.size == (MARGIN + 2 * step, HEAD + 2 * step)
    middle = [made.getpixel((MARGIN + x * step + 8, HEAD + 8)) for x in (0, 1)]
    assert middle == [(255, 0, 0), (0, 128, 0)]
    assert made.getpixel((MARGIN + step + 8, HEAD + step + 8)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--miniature"], "give a trial an --out"),
        (["--data", "nowhere", "--out", "."], "nowhere/train.parquet cannot be read: No such file"),
    ],
)
def test_refusals(options, words, capsys):
    with pytest.raises(SystemExit):
        text.main(options)
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_whole_in_miniature(tmp_path, monkeypatch, capsys):
    """Killed after its training a row is not trained again; what is done is not measured again."""
    write_shapes(tmp_path / "data")
    command = ["--miniature", "--steps", "2", "--data", str(tmp_path / "data")]
    command += ["--out", str(tmp_path / "out"), "--rows", "dico", "dit-linear"]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rows, "scores", killed)
        text.main(command)
    (log,) = (tmp_path / "out" / "runs").glob("dico-*/log.jsonl")
    first = log.stat().st_mtime_ns
    text.main(command)
    assert log.stat().st_mtime_ns == first
    content = json.loads((tmp_path / "out" / "text.json").read_text())
    assert [row["row"] for row in content["rows"]] == ["dico", "dit-linear"]
    for row in content["rows"]:
        assert "failed" not in row and row["steps"] == 2 and row["samples"] == 4
        assert row["distance"] > row["floor"] > 0
        assert 0 <= row["retrieval_1"] <= 1 and row["scorer"] == "emoji-scorer"
    with Image.open(tmp_path / "out" / table.SHEET) as opened:
        assert opened.height == HEAD + 3 * (64 * ZOOM + GAP), "the truth and two rows"
    assert "DiT, linear" in capsys.readouterr().out

    with monkeypatch.context() as patch:
        patch.setattr(rows, "row", killed)
        text.main([*command, "--minutes", "0"])
    assert json.loads((tmp_path / "out" / "text.json").read_text())["rows"] == content["rows"]
    with pytest.raises(SystemExit):
        text.main([*command, "--steps", "3"])
    assert "holds dico with other steps, data or settings" in capsys.readouterr().err


def test_stopped_by_the_minutes_is_said_and_tried_again(tmp_path, monkeypatch):
    trial = Trial(write_shapes(tmp_path / "data"), tmp_path, 2, miniature=True)
    monkeypatch.setattr(rows, "encode_once", lambda trial, folder: None)
    monkeypatch.setattr(rows, "train_until", lambda experiment, seconds: None)
    about = ABOUT | {"kernels": "k", "triton": None}
    ledger = rows.Ledger(tmp_path, "text", about, 5.0, retry=True)
    found = rows.measure(trial, "dic", ledger, "print")
    assert found["failed"] == rows.STOPPED
    monkeypatch.setattr(rows, "row", lambda *_: {"distance": 1.0})
    assert rows.measure(trial, "dic", ledger, "print")["distance"] == 1.0
    assert len(ledger.rows) == 1 and "failed" not in ledger.rows[0]


def test_a_recipe_is_of_what_decides_the_numbers(tmp_path):
    """Not of where the data lie, but of what they are, of the steps and of the row."""
    trial = Trial(tmp_path / "a", tmp_path)
    here = trial.recipe("dico", "print")
    assert recipes.Trial(tmp_path / "b", tmp_path).recipe("dico", "print") == here
    others = [
        trial.recipe("dico", "other"),
        trial.recipe("dic", "print"),
        recipes.Trial(tmp_path, tmp_path, 5).recipe("dico", "print"),
    ]
    assert here not in others and len(set(others)) == 3
