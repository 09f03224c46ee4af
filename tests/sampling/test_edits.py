"""Editing jobs: files in, pictures with recipes and a sheet out, or nothing."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gensynth.errors import InputError, OutputError, RefusedError, UsageError
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.pipelines.editing.edit import Edit, Plan, make_plan, structures
from gensynth.pipelines.loading import load
from gensynth.sampling.edits import SHEET, EditJob, diverse_seeds, run
from gensynth.sampling.outputs import read_recipe
from gensynth.settings import Settings


@pytest.fixture(scope="module")
def model_folder(make_pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tokens"
    make_pipeline("tokens", steps=4, fit="pad").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(model_folder) -> ClassConditionalPipeline:
    return load(model_folder, device="cpu")


def noise(width: int = 28, height: int = 28) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width), dtype=np.uint8)
    return Image.fromarray(pixels)


def half() -> Image.Image:
    mask = Image.new("L", (28, 28))
    mask.paste(255, (0, 10, 28, 28))
    return mask


@pytest.fixture
def job(model_folder, tmp_path):
    """Jobs on `in.png` with the lower part masked by `mask.png`."""
    noise().save(tmp_path / "in.png")
    half().save(tmp_path / "mask.png")

    def make(**fields) -> EditJob:
        given = {"mask": tmp_path / "mask.png", **fields}
        return EditJob(str(model_folder), tmp_path / "in.png", **given)

    return make


def array(image: Image.Image | Path) -> np.ndarray:
    return np.asarray(Image.open(image) if isinstance(image, Path) else image).astype(int)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "tmp" in path.name]


def test_a_folder_of_variants(job, tmp_path, pipeline):
    changes = {"label": "Jackal", "settings": Settings(steps=3, guidance=2.0)}
    out = run(job(num=3, seed=5, similar=True, changes=changes), tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"00000{k}.png" for k in range(3)),
        SHEET,
    ]
    expected = pipeline.edit(noise(), "Jackal", half(), seeds=[5, 6, 7], steps=3, guidance=2.0)
    for number, picture in enumerate(expected):
        assert np.array_equal(array(out / f"00000{number}.png"), array(picture))
        assert np.array_equal(array(picture)[:10], array(noise())[:10])
    recipe = read_recipe(out / "000001.png")
    assert (recipe["label"], recipe["class"], recipe["seed"]) == (9, "Jackal", 6)
    assert (recipe["steps"], recipe["guidance"]) == (3, 2.0)
    assert (recipe["scheduler"], recipe["size"]) == ("HaltonDecoder", [28, 28])
    assert recipe["edit"] == {
        "image": "in.png",
        "image_sha256": digest(tmp_path / "in.png"),
        "mask": "mask.png",
        "mask_sha256": digest(tmp_path / "mask.png"),
        "strength": 1.0,
        "outpaint": None,
        "anchor": None,
        "edge": 1,
    }
    assert leftovers(tmp_path) == []


def test_the_sheet_shows_the_image_what_is_redrawn_and_the_variants(job, tmp_path):
    out = run(job(num=2), tmp_path / "out")
    sheet = array(out / SHEET)
    # Each pixel is a square of 4 x 4.
    tiles = [sheet[y : y + 112 : 4, x : x + 112 : 4] for y in (2, 116) for x in (2, 116)]
    assert sheet.shape == (230, 230, 3)
    assert (sheet[2:114, 2:114] == tiles[0].repeat(4, axis=0).repeat(4, axis=1)).all()
    assert (tiles[0] == array(noise())[..., None]).all()
    assert (tiles[1][:10] == tiles[0][:10]).all()
    assert (tiles[1][10:, :, 0] == (tiles[0][10:, :, 0] + 255) // 2).all()
    for number in (0, 1):
        assert (tiles[2 + number] == array(out / f"00000{number}.png")[..., None]).all()


def test_the_sheet_shows_the_image_on_its_larger_canvas(job, tmp_path):
    changes = {"outpaint": (28, 40), "anchor": "right"}
    sheet = array(run(job(mask=None, changes=changes), tmp_path / "out") / SHEET)
    original, marked = sheet[2:86:3, 2:122:3], sheet[2:86:3, 124:244:3]
    assert (original[:, :12] == 255).all() and (marked[:, :12] == [255, 127, 127]).all()
    for shown in (original, marked):
        assert (shown[:, 12:] == array(noise())[..., None]).all()


def test_large_pictures_are_small_on_the_sheet(job, tmp_path):
    noise(1000, 600).save(tmp_path / "in.png")
    out = run(job(mask=None), tmp_path / "out")
    assert Image.open(out / "000000.png").size == (1000, 600)
    assert Image.open(out / SHEET).size == (2 + 2 * 514, 2 + 309)


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("outpaint", [None, (28, 40)])
def test_one_result_as_a_file_whose_recipe_draws_it_again(job, tmp_path, pipeline, kind, outpaint):
    out = tmp_path / "deep" / f"result.{kind}"
    changes = {"strength": 0.6, "outpaint": outpaint, "anchor": "left" if outpaint else "center"}
    assert run(job(seed=11, changes=changes), out) == out
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    recipe = read_recipe(out)
    assert (recipe["label"], recipe["class"], recipe["guidance"]) == (None, None, 1.0)
    recorded = recipe["edit"]
    assert recorded["anchor"] == ("left" if outpaint else None)
    (again,) = pipeline.edit(
        noise(),
        recipe["label"],
        half(),
        [recipe["seed"]],
        steps=recipe["steps"],
        guidance=recipe["guidance"],
        scheduler=recipe["scheduler"],
        strength=recorded["strength"],
        outpaint=recorded["outpaint"],
        anchor=recorded["anchor"] or "center",
        edge=recorded["edge"],
    )
    assert recipe["size"] == [again.height, again.width] == list(outpaint or (28, 28))
    assert np.array_equal(array(Image.open(out).convert("L")), array(again))


def test_the_steps_that_were_taken_are_recorded(job, tmp_path):
    mask = Image.new("1", (28, 28))
    mask.putpixel((3, 3), 1)
    mask.save(tmp_path / "mask.png")
    run(job(changes={"settings": Settings(steps=50)}), tmp_path / "a.png")
    assert read_recipe(tmp_path / "a.png")["steps"] == 1


def test_options_of_the_decoder_are_recorded(job, tmp_path):
    run(job(changes={"settings": Settings(scheduler_options={"top_k": 3})}), tmp_path / "a.png")
    assert read_recipe(tmp_path / "a.png")["scheduler_options"] == {"top_k": 3}


def test_variations_record_neither_mask_nor_edge(job, tmp_path):
    run(job(mask=None, changes={"strength": 0.5}), tmp_path / "a.png")
    recorded = read_recipe(tmp_path / "a.png")["edit"]
    assert (recorded["mask"], recorded["mask_sha256"], recorded["edge"]) == (None, None, None)


def test_pictures_of_cameras_are_turned_upright(job, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    noise(28, 20).save(tmp_path / "in.png", exif=exif)
    mask = Image.new("L", (20, 28))
    mask.paste(255, (0, 0, 20, 9))
    mask.save(tmp_path / "mask.png")
    run(job(), tmp_path / "out.png")
    upright = array(noise(28, 20).transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(array(tmp_path / "out.png")[9:], upright[9:])


@pytest.fixture(scope="module")
def plan(pipeline) -> Plan:
    return make_plan(pipeline, Edit(noise(), label=2, mask=half(), settings=Settings(steps=6)))


def spread(rows: np.ndarray) -> float:
    """The smallest distance of two rows."""
    pairs = itertools.combinations(rows.astype(float), 2)
    return min(float(np.linalg.norm(one - other)) for one, other in pairs)


def test_diverse_seeds_lie_further_apart_than_consecutive_ones(pipeline, plan):
    seeds = diverse_seeds(pipeline, plan, 4, seed=20)
    assert seeds[0] == 20 and len(set(seeds)) == 4
    assert set(seeds) <= set(range(20, 36)) and seeds != [20, 21, 22, 23]
    chosen, first = structures(pipeline, plan, seeds), structures(pipeline, plan, range(20, 24))
    assert spread(chosen) > spread(first)
    assert diverse_seeds(pipeline, plan, 4, seed=20, batch_size=5) == seeds
    assert diverse_seeds(pipeline, plan, 4, seed=20, candidates=16) == seeds
    assert diverse_seeds(pipeline, plan, 4, seed=20, candidates=8) != seeds
    assert set(diverse_seeds(pipeline, plan, 4, seed=20, candidates=4)) == {20, 21, 22, 23}
    assert diverse_seeds(pipeline, plan, 1, seed=9) == [9]
    with pytest.raises(UsageError, match="choose from 1 to 3 of 3 candidates, got 4"):
        diverse_seeds(pipeline, plan, 4, candidates=3)


def test_every_diverse_variant_is_reproduced_by_its_own_seed(job, tmp_path, pipeline, plan):
    changes = {"label": "2", "settings": Settings(steps=6)}
    out = run(job(num=4, seed=20, batch_size=3, changes=changes), tmp_path / "out")
    recipes = [read_recipe(out / f"00000{k}.png") for k in range(4)]
    assert [recipe["seed"] for recipe in recipes] == diverse_seeds(pipeline, plan, 4, seed=20)
    for number, recipe in enumerate(recipes):
        (alone,) = pipeline.edit(noise(), 2, half(), [recipe["seed"]], steps=6)
        assert np.array_equal(array(out / f"00000{number}.png"), array(alone))


@pytest.mark.parametrize(
    ("fields", "out", "words"),
    [
        ({"num": 0}, "x", "--num-variants must be at least 1, got 0"),
        ({"seed": -1}, "x", "--seed must be"),
        ({"seed": 2**63 - 1}, "x", "--seed must be"),
        ({"num": 2}, "x.png", "2 variants need a folder"),
        ({"batch_size": 0}, "x", "--batch-size must be at least 1"),
        ({"changes": {"strength": 2.0}}, "x", "strength must be"),
        ({"changes": {"label": "Jackel"}}, "x", "Did you mean 'Jackal'"),
        ({"changes": {"settings": Settings(guidance=3.0)}}, "x.png", "give a label too"),
    ],
)
def test_a_job_that_cannot_work_writes_nothing(job, tmp_path, fields, out, words):
    with pytest.raises(UsageError, match=words):
        run(job(**fields), tmp_path / out)
    assert not (tmp_path / out).exists()
    assert leftovers(tmp_path) == []


def test_what_is_there_is_never_replaced(job, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dir.png").mkdir()
    for out, words in [
        ("full", "not empty"),
        ("file", "exists already"),
        ("in.png", "exists already"),
        ("dir.png", "exists already"),
    ]:
        with pytest.raises(RefusedError, match=words):
            run(job(), tmp_path / out)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert (run(job(), tmp_path / "empty") / "000000.png").is_file()


@pytest.mark.parametrize("which", ["image", "mask"])
@pytest.mark.parametrize("content", [None, b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(job, tmp_path, which, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    broken = job()
    setattr(broken, which, path)
    with pytest.raises(InputError, match=r"broken\.png"):
        run(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_off_image_is_refused(job, tmp_path):
    path = tmp_path / "in.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(
        InputError, match=r"in\.png is not (a readable image|an image of a known kind)"
    ):
        run(job(), tmp_path / "out")


def test_models_of_latents_are_refused(job, tmp_path, tiny_model_folder):
    other = job()
    other.model = str(tiny_model_folder)
    with pytest.raises(UsageError, match="needs a model that draws tokens"):
        run(other, tmp_path / "out")


@pytest.mark.parametrize("out", ["file/out", "file/out.png"])
def test_a_place_that_cannot_be_written(job, tmp_path, out):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="is a file, so it can hold no folder"):
        run(job(), tmp_path / out)


def test_the_command(model_folder, tmp_path, command, monkeypatch):
    noise().save(tmp_path / "in.png")
    monkeypatch.chdir(tmp_path)
    line = "--outpaint 28x40 --anchor left --label Jackal --guidance 2 --steps 3 --edge 0 -n 2"
    line += " --scheduler ConfidenceDecoder --out out"
    done = command("edit", "in.png", "--model", model_folder, *line.split())
    assert (done.returncode, done.stdout) == (0, "out\n"), done.stderr
    recipe = read_recipe(tmp_path / "out" / "000001.png")
    assert (recipe["class"], recipe["steps"], recipe["guidance"]) == ("Jackal", 3, 2.0)
    assert (recipe["scheduler"], recipe["size"]) == ("ConfidenceDecoder", [28, 40])
    assert (recipe["edit"]["anchor"], recipe["edit"]["edge"]) == ("left", 0)
    assert np.array_equal(array(tmp_path / "out" / "000001.png")[:, :28], array(noise()))


def test_variants_that_would_be_alike_are_refused(job, tmp_path):
    changes = {"settings": Settings(scheduler_options={"greedy": True})}
    with pytest.raises(UsageError, match="all variants would be alike"):
        run(job(num=2, changes=changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.tif"])
def test_other_kinds_of_files_are_refused(job, tmp_path, name):
    with pytest.raises(
        UsageError, match=r"must end in \.png or \.webp, or be the name of a folder"
    ):
        run(job(), tmp_path / name)


def test_upper_case_names_files_too(job, tmp_path):
    assert run(job(), tmp_path / "a.PNG").is_file()
