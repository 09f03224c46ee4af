"""Prompts, training pictures and held-out pairs from names to report and page.

Pictures of things (where a square lies) in styles (its colour), so that what is right is known.
"""

import io
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image, ImageDraw

from gensynth.errors import InputError, UsageError
from gensynth.evaluation.evaluate import Texts, evaluate, prompts_at
from gensynth.evaluation.report.page import write_page
from gensynth.evaluation.report.report import print_report

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 210)}
THINGS = [f"square {number}" for number in range(12)]


def drawn(caption, shift=0):
    thing, colour = caption.split(", ")
    left = 2 + 4 * THINGS.index(thing) + shift
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).rectangle((left, 10, left + 12, 50), fill=COLOURS[colour])
    return image


def stored(path, captions, shift=0):
    rows = {"image": [], "text": captions}
    for caption in captions:
        stream = io.BytesIO()
        drawn(caption, shift).save(stream, "PNG")
        rows["image"].append({"bytes": stream.getvalue(), "path": None})
    pyarrow.parquet.write_table(pa.table(rows), path)
    return str(path)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Pairs that were learnt, others that were not, and samples of the latter, moved a little."""
    root = tmp_path_factory.mktemp("sets")
    colours = list(COLOURS)
    held_out = [f"{thing}, {colours[at % 3]}" for at, thing in enumerate(THINGS)]
    pairs = [f"{thing}, {colour}" for thing in THINGS for colour in COLOURS]
    learnt = [pair for pair in pairs if pair not in held_out]
    stored(root / "train.parquet", learnt)
    stored(root / "test.parquet", held_out)
    stored(root / "samples.parquet", held_out, shift=1)
    stored(root / "copies.parquet", learnt[:4] * 3)
    return root


def run(sets, samples="samples", texts=None, metrics=("frechet", "copies", "held-out"), **more):
    texts = texts or Texts(trained_on=str(sets / "train.parquet"))
    place = sets / f"{samples}.parquet"
    return evaluate(
        str(place), str(sets / "test.parquet"), metrics=list(metrics), texts=texts, **more
    )


@pytest.fixture(scope="module")
def evaluated(sets):
    return run(sets)


def scores(report):
    return {score["key"]: score for score in report["scores"]}


def test_held_out_samples_are_nearer_to_the_truth(evaluated):
    found = scores(evaluated[1])["held_out_pixels"]
    assert found["value"] == 1 and found["details"]["pairs"] == 12
    # a square one pixel off against one of another colour
    assert found["details"]["to_truth"] < 0.5 * found["details"]["to_other_style"]
    assert scores(evaluated[1])["copies_pixels"]["value"] == 0


def test_the_floor_is_of_training_pictures(sets, evaluated):
    assert evaluated[1]["floor_of"] == f"12 images of {sets / 'train.parquet'}"
    same = Texts(trained_on=str(sets / "test.parquet"))
    assert run(sets, texts=same, metrics=["frechet"])[1]["floor_of"] is None


def test_copies_are_told_from_held_out_pairs(sets):
    texts = Texts(str(sets / "test.parquet"), str(sets / "train.parquet"))
    found = scores(run(sets, "copies", texts)[1])
    assert found["copies_pixels"]["value"] == 1
    assert found["copies_pixels"]["floor"] == 0  # no picture of the reference was learnt
    assert found["held_out_pixels"]["value"] < 0.3  # with prompts that they do not show


def test_a_second_caption_of_a_training_picture_was_learnt(sets):
    table = pyarrow.parquet.read_table(sets / "train.parquet")
    held_out = f"{THINGS[0]}, red"  # until now
    texts = [[caption, held_out] for caption in table["text"].to_pylist()]
    pyarrow.parquet.write_table(
        table.set_column(table.column_names.index("text"), "text", pa.array(texts)),
        sets / "several.parquet",
    )
    several = Texts(trained_on=str(sets / "several.parquet"))
    found = scores(run(sets, texts=several, metrics=["held-out"])[1])["held_out_pixels"]
    assert found["details"]["pairs"] == 11


def test_the_page_shows_samples_beside_true_and_training_pictures(evaluated, tmp_path, capsys):
    write_page(*evaluated, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("<h2>Held-out pairs</h2>") < page.index("<h2>Nearest training pictures</h2>")
    assert page.count('alt="the true picture of') == 12
    assert "of 12 samples are called copies" in page
    said = scores(evaluated[1])["held_out_pixels"]["details"]
    assert f"{said['to_truth']:.2f} from the true picture" in page
    print_report(evaluated[1])
    printed = " ".join(capsys.readouterr().out.split())
    assert "100.0% are nearer to the truth" in printed and "Copies(pixels)" in printed
    json.dumps(evaluated[1], allow_nan=False)


def test_prompts_of_another_number_are_refused(sets, tmp_path):
    (tmp_path / "three.txt").write_text("a\n\nb\nc\n", encoding="utf-8")
    assert prompts_at(str(tmp_path / "three.txt")) == ["a", "b", "c"]
    with pytest.raises(UsageError, match=r"has 3 prompts and .* 12 samples; give one for each"):
        run(sets, texts=Texts(str(tmp_path / "three.txt")))
    with pytest.raises(InputError, match="holds no prompts"):
        (tmp_path / "none.txt").write_text("\n", encoding="utf-8")
        prompts_at(str(tmp_path / "none.txt"))
    drawn("square 1, red").save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="have no captions; give what is to be drawn"):
        prompts_at(str(tmp_path))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("copies", "no copies: the training pictures are not known; give --trained-on"),
        ("clip-score", "no clip-score: it needs the weights of a CLIP; give --clip"),
    ],
)
def test_what_is_missing_is_said_where_it_was_asked_for(sets, metric, said):
    assert said in run(sets, texts=Texts(), metrics=["frechet", metric])[1]["warnings"]


def test_samples_without_prompts(sets, tmp_path):
    for number in range(3):
        drawn("square 1, red", number).save(tmp_path / f"{number}.png")
    _, report = evaluate(
        str(tmp_path), str(sets / "test.parquet"), metrics=["frechet", "retrieval"]
    )
    said = "no retrieval: what the samples were drawn for is not known; give --prompts"
    assert said in report["warnings"]


def test_a_reference_that_was_learnt_is_told(sets):
    texts = Texts(trained_on=str(sets / "test.parquet"))
    warnings = run(sets, texts=texts, metrics=["frechet", "copies"])[1]["warnings"]
    assert any("12 images of the reference are training pictures" in text for text in warnings)


def test_the_scorer_says_that_it_knows_emoji_only(sets):
    report = run(sets, texts=Texts(), metrics=["frechet", "retrieval"])[1]
    found = scores(report)
    assert found["retrieval_1"]["details"]["among"] == 12
    assert found["retrieval_1"]["details"]["chance"] == 1 / 12
    assert found["style_1"]["details"]["among"] == 3
    few = found["retrieval_5"]["floor"] < 0.5
    assert few == any("knows emoji only" in text for text in report["warnings"])


def test_numbers_are_the_same_for_samples_that_are_read_again(sets, evaluated):
    again = scores(run(sets, num=12)[1])
    for key, score in scores(evaluated[1]).items():
        assert torch.isfinite(torch.tensor(score["value"]))
        assert again[key]["value"] == pytest.approx(score["value"], rel=1e-6)
