import io
import json
import math

import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from gensynth.cli.measuring.compare import register
from gensynth.errors import InputError, OutputError, RefusedError, UsageError
from gensynth.evaluation.comparing.compare import compare
from gensynth.evaluation.comparing.output import print_comparison, write_comparison

FINGERPRINT, REFERENCE, STATISTICS = "0123456789abcdef", "ab" * 32, "12" * 32


def score(key, name, value, error=None, better="lower", floor=None):
    return {
        "key": key,
        "name": name,
        "value": value,
        "better": better,
        "standard_error": error,
        "corrected": None,
        "floor": floor,
        "details": {},
    }


def report(
    value,
    error=0.3,
    count=2000,
    fingerprint=FINGERPRINT,
    sha256=REFERENCE,
    statistics=STATISTICS,
    images=None,
    name="real",
    samples=None,
    **extra,
):
    reference = {"name": name, "count": 2000, "sha256": sha256, "images_sha256": images}
    return {
        "schema": 2,
        "headline": "fd_s112",
        "scores": [
            score("fd_s112", "FD(lite0-64 s112)", value, error, floor=11.0),
            score("precision", "Precision(lite0-64)", 1 / value, 0.01, "higher"),
        ],
        "samples": {"name": "drawn", "count": count, **(samples or {})},
        "reference": {**reference, **({"statistics_sha256": statistics} if statistics else {})},
        "extractor": {"name": "lite0-64", "fingerprint": fingerprint},
        **extra,
    }


@pytest.fixture
def write(tmp_path):
    """Writes a metrics.json into a folder of this name, or lines of evaluations."""

    def write(name, content):
        folder = tmp_path / name
        folder.mkdir()
        if isinstance(content, dict):
            (folder / "metrics.json").write_text(json.dumps(content))
        else:
            lines = "".join(json.dumps(line) + "\n" for line in content)
            (folder / "evaluations.jsonl").write_text(lines)
        return str(folder)

    return write


def curve(values, batch=10, seconds=1.0, error=0.4, **other):
    """Evaluations every 100 steps."""
    return [
        {
            "step": 100 * number,
            "images": 100 * number * batch,
            "seconds": 100 * number * seconds,
            "metric": "FD(lite0-64 s112)",
            "value": value,
            "standard_error": error,
            "floor": 11.0,
            "num_samples": 2000,
            "extractor_fingerprint": FINGERPRINT,
            "reference_sha256": STATISTICS,
            "best": value == min(values),
            **other,
        }
        for number, value in enumerate(values, start=1)
    ]


def test_best_and_differences_in_standard_errors(write):
    places = [write("a", report(20.0, 0.3)), write("b", report(22.0, 0.4))]
    distance, precision = compare(places).rows
    assert (distance.best, precision.best) == (0, 0)
    assert distance.apart == [None, pytest.approx(2.0 / 0.5)]
    assert precision.apart == [None, pytest.approx((1 / 20 - 1 / 22) / math.hypot(0.01, 0.01))]


def test_higher_is_better_where_it_is(write):
    places = [write(name, report(20.0)) for name in "ab"]
    better = report(20.0)
    better["scores"][1]["value"] = 0.9
    assert compare([*places, write("c", better)]).rows[1].best == 2


def test_a_number_without_error_is_ranked_without_difference(write):
    comparison = compare([write("a", report(20.0, None)), write("b", report(22.0, 0.4))])
    assert comparison.rows[0].best == 0
    assert comparison.rows[0].apart == [None, None]


UNLIKE = {
    "extractor": ({"fingerprint": "f" * 16}, "ffffffffffffffff"),
    "reference": (
        {"statistics": "cd" * 32, "sha256": "ef" * 32, "name": "photos.npz"},
        "photos.npz (cdcdcdcdcdcd…)",
    ),
    "number of samples": ({"count": 50_000}, "50,000"),
    "protocol": ({"protocol": "dit-xl2-256"}, "dit-xl2-256"),
}


@pytest.mark.parametrize("condition", UNLIKE)
def test_unlike_numbers_are_not_ranked(write, condition):
    changes, named = UNLIKE[condition]
    places = [write("one", report(20.0)), write("two", report(10.0, **changes))]
    with pytest.raises(RefusedError) as refusal:
        compare(places)
    message = str(refusal.value)
    assert f"differ in the {condition}" in message
    assert f"two has {named}" in message
    assert "--force" in message
    forced = compare(places, force=True)
    assert {row.best for row in forced.rows} == {None}
    assert [score.value for score in forced.rows[0].scores] == [20.0, 10.0]
    assert len(forced.differences) == 1
    assert f"two has {named}" in printed(forced)


def test_an_unknown_reference_is_no_equal_reference(write):
    places = [write(name, report(20.0, sha256=None, statistics=None)) for name in "ab"]
    with pytest.raises(RefusedError, match="a has real, which no hash tells; b has real, which"):
        compare(places)


def test_the_same_images_are_the_same_reference_whatever_their_statistics(write):
    """Statistics of other threads differ in the last bits; those of older reports may be equal."""
    threads = [
        report(value, images="ef" * 32, statistics=statistics * 32, sha256=statistics * 32)
        for value, statistics in ((20.0, "12"), (22.0, "34"))
    ]
    places = [write(f"thread{number}", one) for number, one in enumerate(threads)]
    assert compare(places).rows[0].best == 0
    older = write("older", report(22.0, sha256="ab" * 32))
    assert compare([places[0], older]).rows[0].best == 0
    with pytest.raises(RefusedError, match=r"thread1 has real \(efefefefefef…\); older has real"):
        compare([places[1], older])
    training = write("training", curve([50], reference_sha256="ef" * 32, reference="photos"))
    assert compare([*places, training]).rows[0].best == 0


def test_a_training_run_whose_reference_changed_is_unlike_itself(write):
    lines = [
        *curve([50], reference="one"),
        *curve([40], reference="two", reference_sha256="cd" * 32),
    ]
    with pytest.raises(RefusedError, match=r"a has one \(1212.*…\) and two \(cdcd.*…\); b has "):
        compare([write("a", lines), write("b", curve([30]))])


def test_a_refusal_says_only_what_differs(write):
    places = [write("a", report(20.0)), write("b", report(22.0, count=50_000))]
    with pytest.raises(RefusedError) as refusal:
        compare(places)
    assert str(refusal.value) == (
        "these numbers cannot be ranked. They differ in the number of samples: a has 2,000; b has "
        "50,000. See them side by side with --force."
    )


def test_equal_numbers_are_called_equal(write, tmp_path):
    twins = [write("a", report(20.0)), write("b", report(20.0 * (1 + 1e-7)))]
    comparison = compare(twins)
    assert (comparison.rows[0].best, comparison.rows[0].equal) == (None, (0, 1))
    text = printed(comparison)
    assert text.count("20.00 ± 0.30, equal") == 2
    assert ", best" not in text and "0.0 s.e. behind" not in text
    assert "20.00 ± 0.30, equal" in write_comparison(comparison, tmp_path)[1].read_text()
    text = printed(compare([*twins, write("c", report(22.0))]))
    assert text.count("20.00 ± 0.30, equal") == 2 and "22.00 ± 0.30, 4.7 s.e. behind" in text


def test_other_names_and_dates_of_a_reference_make_no_difference(write):
    places = [write("a", report(20.0)), write("b", report(22.0, sha256="cd" * 32))]
    assert compare(places).rows[0].best == 0


def test_references_of_older_reports_are_compared_by_their_files(write):
    new, old = write("new", report(20.0)), write("old", report(22.0, statistics=None))
    assert compare([new, old]).rows[0].best == 0
    other = write("other", report(22.0, statistics=None, sha256="cd" * 32))
    for before in (new, old):
        with pytest.raises(
            RefusedError, match=r"differ in the reference: .* other has real .cdcdcd"
        ):
            compare([before, other])


def test_other_labels_are_not_ranked_where_they_are_known(write):
    balanced = write("a", report(20.0, samples={"label_rule": "balanced"}))
    random = write("b", report(22.0, samples={"label_rule": "random"}))
    files = write("files", report(21.0))
    assert compare([balanced, files]).rows[0].best == 0
    with pytest.raises(RefusedError, match="label rule: a has balanced; b has random"):
        compare([balanced, files, random])
    training = write("training", curve([50], label_rule="balanced"))
    assert compare([balanced, training]).differences == []
    with pytest.raises(RefusedError, match="label rule: training has balanced; b has random"):
        compare([training, random])


DRAWING = {
    "steps": 50,
    "guidance": 1.5,
    "guidance_interval": None,
    "scheduler": "DDPMScheduler",
    "scheduler_options": None,
    "size": [32, 32],
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"steps": 250}, ["Drawn with another steps: a has 50; b has 250."]),
        ({"guidance": 4.0, "size": [64, 64]},
         ["Drawn with another guidance: a has 1.5; b has 4.0.",
          "Drawn with another size: a has [32, 32]; b has [64, 64]."]),
        ({"scheduler": "DDIMScheduler"},
         ["Drawn with another scheduler: a has DDPMScheduler; b has DDIMScheduler."]),
        ({"guidance_interval": [0.0, 0.5]},
         ["Drawn with another guidance interval: a has none; b has [0.0, 0.5]."]),
        ({"steps": 60, "timestep_respacing": "10,50", "eta": 0.5},
         ["Drawn with another steps: a has 50; b has 60.",
          "Drawn with another timestep respacing: a has none; b has 10,50.",
          "Drawn with another eta: a has none; b has 0.5."]),
    ],
)  # fmt: skip
def test_samples_that_were_drawn_otherwise_are_ranked_with_a_note(write, tmp_path, changes, said):
    places = [
        write("a", report(20.0, samples={"drawing": DRAWING})),
        write("b", report(22.0, samples={"drawing": DRAWING | changes})),
        write("files", report(21.0)),
    ]
    comparison = compare(places)
    assert (comparison.notes, comparison.rows[0].best) == (said, 0)
    written = {path.name: path for path in write_comparison(comparison, tmp_path)}
    assert json.loads(written["comparison.json"].read_text())["notes"] == said
    for sentence in said:
        assert sentence in printed(comparison)
        assert sentence in written["comparison.md"].read_text()


def test_training_runs_that_drew_otherwise(write):
    a = write("a", [*curve([50], steps=20, guidance=1.0), *curve([40], steps=30, guidance=1.0)])
    b, c = write("b", curve([45], steps=20, guidance=1.0)), write("c", curve([45]))
    said = "Drawn with another steps: a has 20 and 30; b has 20."
    assert compare([a, b, c]).notes == [said]
    assert compare([b, c]).notes == []


def printed(comparison):
    console = Console(width=200, record=True, file=io.StringIO())
    print_comparison(comparison, console)
    return console.export_text()


def test_the_table_marks_the_best(write):
    text = printed(compare([write("ours", report(20.0)), write("theirs", report(22.0))]))
    line = next(line for line in text.splitlines() if "FD(lite0-64 s112)" in line)
    assert "20.00 ± 0.30, best" in line
    assert "22.00 ± 0.30, 4.7 s.e. behind" in line
    assert line.index("20.00") < line.index("22.00")


def test_training_runs_at_the_same_budget(write):
    # b sees twice the images a step, but a step of it takes four times as long.
    a = write("a", curve([50, 40, 30, 20], batch=10, seconds=1))
    b = write("b", curve([45, 25, 15, 18], batch=20, seconds=4))
    rows = {row.name: row for row in compare([a, b]).rows}
    best, images, seconds = rows.values()
    assert [one.value for one in best.scores] == [20, 15]
    assert images.name == "FD(lite0-64 s112), at 4,000 images"
    assert [(one.value, one.details["step"]) for one in images.scores] == [(20, 400), (25, 200)]
    assert images.best == 0
    assert seconds.name == "FD(lite0-64 s112), after 400 s"
    assert [one.value for one in seconds.scores] == [20, 45]


def test_a_run_without_an_evaluation_within_the_budget(write):
    a, b = write("a", curve([50], seconds=1)), write("b", curve([45, 25], seconds=4))
    row = compare([a, b]).rows[2]
    assert row.scores[1] is None
    assert row.best is None


def test_a_run_beside_an_evaluation(write):
    (row, *_) = compare([write("a", curve([50, 40])), write("b", report(30.0))]).rows
    assert [one.value for one in row.scores] == [40, 30.0]
    assert row.best == 1


def test_a_run_that_changed_on_the_way_is_unlike_itself(write):
    lines = [*curve([50]), *curve([40], num_samples=500)]
    with pytest.raises(RefusedError, match="a has 2,000 and 500; b has 2,000"):
        compare([write("a", lines), write("b", curve([30]))])


def test_a_run_that_diverged_is_never_best(write):
    rows = compare([write("a", curve([math.nan])), write("b", curve([40]))]).rows
    assert {row.best for row in rows} == {None}
    rows = compare([write("c", curve([math.nan, 60])), write("d", curve([40, 50]))]).rows
    assert (rows[0].best, rows[0].scores[0].value) == (1, 60)


def test_a_line_that_was_cut_off(write, tmp_path):
    a, b = write("a", curve([50, 40])), write("b", curve([45]))
    with (tmp_path / "a" / "evaluations.jsonl").open("a") as stream:
        stream.write('{"step": 300, "val')
    assert [one.value for one in compare([a, b]).rows[0].scores] == [40, 45]


def test_files_and_folders_are_the_same_run(write):
    a, b = write("a", report(20.0)), write("b", report(22.0))
    by_file = compare([f"{a}/metrics.json", b])
    assert [run.name for run in by_file.runs] == ["a", "b"]
    with pytest.raises(UsageError, match="two or more different"):
        compare([f"{a}/metrics.json", a])
    with pytest.raises(UsageError, match="two or more different"):
        compare([a])


def test_equal_folder_names_are_told_apart(tmp_path):
    places = []
    for parent in "xy":
        folder = tmp_path / parent / "run"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(report(20.0)))
        places.append(str(folder))
    assert [run.name for run in compare(places).runs] == places


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not hold numbers"),
        ("[]", "does not hold numbers"),
        ('{"schema": 1}', "another version"),
        ('{"schema": 2, "scores": [{"name": "x"}]}', "does not hold numbers"),
    ],
)
def test_damaged_numbers(write, tmp_path, content, message):
    good = write("good", report(20.0))
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=message):
        compare([good, str(tmp_path / "bad.json")])


def test_nothing_to_compare(write, tmp_path):
    good = write("good", report(20.0))
    with pytest.raises(InputError, match=r"no numbers in .*nowhere"):
        compare([good, str(tmp_path / "nowhere")])
    with pytest.raises(InputError, match="empty has no evaluation yet"):
        compare([good, write("empty", [])])
    with pytest.raises(InputError, match="does not hold numbers"):
        compare([good, write("log", [{"step": 1, "loss": 0.5}])])


def test_what_is_written(write, tmp_path):
    a, b = write("a|b", report(20.0)), write("b", report(22.0))
    paths = write_comparison(compare([a, b]), tmp_path / "new" / "out")
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == [
        "comparison.json",
        "comparison.md",
        "comparison.png",
    ]
    content = json.loads(paths[0].read_text())
    assert content["ranked"] is True
    assert content["rows"][0]["best"] == "a|b"
    assert content["rows"][0]["scores"][1]["standard_errors_behind"] == pytest.approx(
        4.714, abs=1e-3
    )
    table = paths[1].read_text().splitlines()
    assert table[0] == r"| number | a\|b | b |"
    assert table[2].startswith("| FD(lite0-64 s112) ↓ | **20.00 ± 0.30, best** | 22.00")
    assert extrema_differ(paths[2])


def extrema_differ(path):
    with Image.open(path) as picture:
        assert min(picture.size) > 200
        return any(low != high for low, high in picture.convert("RGB").getextrema())


def test_a_picture_of_curves(write, tmp_path):
    a, b = write("a", curve([50, 40, 30])), write("b", curve([45, 25, 28], batch=20))
    names = {path.name: path for path in write_comparison(compare([a, b]), tmp_path)}
    with Image.open(names["comparison.png"]) as picture:
        # three panels of curves above three of bars
        assert picture.size == (1980, 900)
    evaluations = json.loads(names["comparison.json"].read_text())["runs"][1]["evaluations"]
    assert [line["value"] for line in evaluations] == [45, 25, 28]


def test_a_place_that_cannot_be_written(write, tmp_path):
    places = [write("a", report(20.0)), write("b", report(22.0))]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--out"):
        write_comparison(compare(places), tmp_path / "file")


def test_the_command(write, tmp_path):
    app = typer.Typer()
    register(app)
    a, b = write("a", report(20.0)), write("b", report(22.0))
    result = CliRunner().invoke(app, [a, b, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "20.00 ± 0.30, best" in result.output
    assert "comparison.png" in result.output
    unlike = write("c", report(10.0, count=5))
    assert isinstance(CliRunner().invoke(app, [a, unlike]).exception, RefusedError)
    forced = CliRunner().invoke(app, [a, unlike, "--force"])
    assert forced.exit_code == 0
    assert "Not ranked." in forced.output
    assert "best" not in forced.output


@pytest.mark.parametrize("key", ["prompts", "trained_on", "scorer"])
def test_other_prompts_training_pictures_or_scorers_are_not_ranked(write, key):
    one, other = ({"beside": {f"{key}_sha256": 32 * pair}} for pair in ("ab", "cd"))
    same = [write(name, report(20.0, **one)) for name in "ab"]
    assert compare(same).differences == []
    assert compare([same[0], write("without", report(21.0))]).differences == []
    words = {"trained_on": "training pictures"}.get(key, key)
    with pytest.raises(RefusedError, match=f"They differ in the {words}: a has abababababab…"):
        compare([same[0], write("other", report(20.0, **other))])
