import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gensynth.data.files.image_set import open_images
from gensynth.errors import OutputError, RefusedError, UsageError
from gensynth.pipelines.loading import load
from gensynth.sampling.generate import Picture, generate, plan
from gensynth.sampling.job import Job, run
from gensynth.sampling.outputs import SampleFolder, read_recipe, save_picture
from gensynth.settings import Settings


@pytest.fixture
def job(tiny_model_folder):
    def make(**changes) -> Job:
        settings = Settings(**changes.pop("settings", {"steps": 2}))
        given = {"shown": None, "num": 6, "seed": 3, **changes}
        return Job(str(tiny_model_folder), settings=settings, **given)

    return make


def pictures(folder: Path, kind: str = "png") -> dict[int, np.ndarray]:
    files = sorted(folder.glob(f"[0-9]*.{kind}"))
    return {int(file.stem): np.asarray(Image.open(file)).astype(int) for file in files}


def stamps(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("[0-9]*")}


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "tmp" in path.name]


def test_the_plan_takes_labels_in_turn():
    assert plan([4, 7], 3, 10) == [Picture(0, 4, 10), Picture(1, 7, 11), Picture(2, 4, 12)]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0-2", [0, 1, 2]),
        ("3,5", [3, 5]),
        ("Cat, dog", [2, 3]),
        ("1,8-9,Ant", [1, 8, 9, 0]),
        ("4-4", [4]),
    ],
)
def test_labels_are_numbers_ranges_and_names(tiny_pipeline, text, labels):
    assert tiny_pipeline.condition.parse(text) == labels


@pytest.mark.parametrize("text", ["", " , ", "5-2", "0-10", "Unicorn", "1;2", "-1"])
def test_labels_that_are_refused(tiny_pipeline, text):
    with pytest.raises(UsageError):
        tiny_pipeline.condition.parse(text)


def test_batch_sizes_below_one_are_refused(tiny_pipeline):
    with pytest.raises(UsageError, match="batch size"):
        list(generate(tiny_pipeline.draw, plan([0], 1, 0), 0))


@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_a_folder_of_pictures(job, tmp_path, tiny_pipeline, kind):
    out = run(job(kind=kind), tmp_path / "out")
    drawn = pictures(out, kind)
    expected = tiny_pipeline([0, 1, 2, 3, 4, 5], range(3, 9), steps=2)
    assert list(drawn) == [0, 1, 2, 3, 4, 5]
    for number, picture in enumerate(expected):
        shown = drawn[number] if drawn[number].ndim == 2 else drawn[number][..., 0]
        assert abs(shown - np.asarray(picture).astype(int)).max() <= 1
    assert [(entry["index"], entry["label"], entry["seed"]) for entry in manifest(out)] == [
        (k, k, 3 + k) for k in range(6)
    ]
    assert leftovers(out) == []
    assert (out / "grid.png").is_file()


@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_a_picture_carries_the_recipe_that_draws_it_again(job, tmp_path, kind, tiny_pipeline):
    out = run(job(kind=kind, shown="Fox", num=1, settings={"steps": 2, "guidance": 1.5}), tmp_path)
    recipe = read_recipe(out / f"000000.{kind}")
    assert (recipe["class"], recipe["label"], recipe["seed"]) == ("Fox", 5, 3)
    (again,) = tiny_pipeline(
        [recipe["class"]],
        [recipe["seed"]],
        steps=recipe["steps"],
        guidance=recipe["guidance"],
        size=tuple(recipe["size"]),
        scheduler=recipe["scheduler"],
    )
    drawn = pictures(out, kind)[0]
    drawn = drawn if drawn.ndim == 2 else drawn[..., 0]
    assert abs(drawn - np.asarray(again).astype(int)).max() <= 1


@pytest.fixture(scope="module")
def guide_folder(make_pipeline, make_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("guide") / "worse"
    make_pipeline(model=make_model(hidden_size=4)).save_pretrained(folder)
    return folder


def test_a_guided_picture_carries_its_recipe(job, tmp_path, tiny_pipeline, guide_folder):
    settings = {"steps": 2, "guidance": 2.5, "guidance_interval": (0.1, 0.8)}
    out = run(job(num=1, settings={**settings, "guide": str(guide_folder)}), tmp_path)
    recipe = read_recipe(out / "000000.png")
    assert (recipe["guide"], recipe["guidance_interval"]) == (str(guide_folder), [0.1, 0.8])
    (again,) = tiny_pipeline(
        [recipe["label"]],
        [recipe["seed"]],
        steps=recipe["steps"],
        guidance=recipe["guidance"],
        guidance_interval=recipe["guidance_interval"],
        guide=load(recipe["guide"], device="cpu"),
    )
    assert abs(pictures(out)[0] - np.asarray(again).astype(int)).max() <= 1


def test_a_job_with_another_guide_is_refused(job, tmp_path, guide_folder, tiny_model_folder):
    settings = {"steps": 1, "guidance": 2.0}
    by_worse = {**settings, "guide": str(guide_folder)}
    guided = job(num=1, settings=by_worse)
    out = run(guided, tmp_path)
    before = stamps(out)
    assert run(guided, tmp_path) == out
    own = job(num=1, settings={**settings, "guide": str(tiny_model_folder)})
    limited = job(num=1, settings={**by_worse, "guidance_interval": (0.2, 0.7)})
    for other, words in [
        (own, "guide was"),
        (job(num=1, settings=settings), "guide was '.*', now None"),
        (limited, r"guidance_interval was None, now \[0.2, 0.7\]"),
    ]:
        with pytest.raises(RefusedError, match=words):
            run(other, tmp_path)
    assert stamps(out) == before


def test_recipes_can_be_left_out(job, tmp_path):
    out = run(job(num=1, metadata=False), tmp_path)
    assert read_recipe(out / "000000.png") is None
    assert Image.open(out / "000000.png").info == {}


@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_recipes_keep_letters_of_all_languages(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    given = {"class": "猫 Zürich\n", "size": [4, 4], "steps": 1, "scheduler": "x", "guidance": 1.0}
    given |= {"seed": 2**62, "model": "módel"}
    save_picture(Image.new("L", (4, 4)), path, given)
    assert read_recipe(path) == given


def test_the_array_has_the_layout_of_adms_evaluator(job, tmp_path):
    files = run(job(num=5, shown="2,4"), tmp_path / "files")
    out = run(job(num=5, shown="2,4", kind="npz"), tmp_path / "array")
    with np.load(out / "samples.npz") as stored:
        assert stored.files == ["arr_0", "arr_1"]
        images, labels = stored["arr_0"], stored["arr_1"]
    assert (images.shape, images.dtype) == ((5, 32, 32, 1), np.uint8)
    assert (labels.tolist(), labels.dtype) == ([2, 4, 2, 4, 2], np.int64)
    for number, picture in pictures(files).items():
        assert np.array_equal(images[number, ..., 0], picture)
    assert leftovers(out) == []


@pytest.mark.parametrize("kind", ["png", "npz"])
def test_the_batch_size_does_not_show(job, tmp_path, kind):
    one = open_images(str(run(job(kind=kind, batch_size=1), tmp_path / "one")))
    many = open_images(str(run(job(kind=kind, batch_size=16), tmp_path / "many")))
    for index in range(6):
        assert (one.read(index).int() - many.read(index).int()).abs().max() <= 1


def test_a_second_run_draws_nothing(job, tmp_path):
    out = run(job(), tmp_path)
    before = stamps(out)
    run(job(), tmp_path)
    assert stamps(out) == before
    assert len(manifest(out)) == 6


@pytest.mark.parametrize("damage", ["deleted", "flipped", "cut", "empty"])
def test_a_damaged_picture_is_drawn_again(job, tmp_path, damage):
    out = run(job(), tmp_path)
    before, good = stamps(out), (out / "000002.png").read_bytes()
    path = out / "000002.png"
    if damage == "deleted":
        path.unlink()
    else:
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 255
        changed = {"flipped": bytes(flipped), "cut": good[:50], "empty": b""}
        path.write_bytes(changed[damage])
    run(job(), tmp_path)
    after = stamps(out)
    assert {name for name in after if after[name] != before[name]} == {"000002.png"}
    assert abs(pictures(out)[2] - np.asarray(Image.open(path)).astype(int)).max() == 0
    assert len(path.read_bytes()) == len(good)
    assert len(manifest(out)) == 6


def test_a_damaged_row_of_an_array_is_drawn_again(job, tmp_path):
    out = run(job(kind="npz"), tmp_path)
    with np.load(out / "samples.npz") as stored:
        good = stored["arr_0"]
    rows = np.load(out / "pictures.npy", mmap_mode="r+")
    rows[4] = 0
    rows.flush()
    run(job(kind="npz"), tmp_path)
    with np.load(out / "samples.npz") as stored:
        assert abs(stored["arr_0"].astype(int) - good).max() <= 1


def test_a_killed_run_continues_after_its_half_written_line(job, tmp_path):
    out = run(job(num=3), tmp_path)
    with (out / "manifest-0.jsonl").open("a") as stream:
        stream.write('{"index": 3, "la')  # killed while writing the line of picture 3
    run(job(), tmp_path)
    assert [entry["index"] for entry in manifest(out)] == [0, 1, 2, 3, 4, 5]
    before = stamps(out)
    run(job(), tmp_path)
    assert stamps(out) == before


def test_the_number_can_grow(job, tmp_path):
    out = run(job(num=2), tmp_path)
    before = stamps(out)
    run(job(num=5), tmp_path)
    assert sorted(pictures(out)) == [0, 1, 2, 3, 4]
    assert {name: stamps(out)[name] for name in before} == before
    whole = pictures(run(job(num=5), tmp_path / "whole"))
    for number, picture in pictures(out).items():
        assert abs(picture - whole[number]).max() <= 1


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"seed": 4}, ["seed was 3, now 4"]),
        ({"shown": "1"}, ["labels was"]),
        ({"kind": "webp"}, ["format was 'png', now 'webp'"]),
        ({"settings": {"steps": 3}}, ["steps was 2, now 3"]),
        ({"settings": {"steps": 2, "guidance": 2.0}}, ["guidance was 1.0, now 2.0"]),
        ({"settings": {"steps": 2, "size": 16}}, ["size was [32, 32], now [16, 16]"]),
        (
            {"settings": {"steps": 4, "scheduler": "UniPCMultistepScheduler"}, "seed": 9},
            ["scheduler was", "seed was", "steps was"],
        ),
    ],
)
def test_a_folder_of_another_job_is_refused(job, tmp_path, changes, keys):
    out = run(job(num=2), tmp_path)
    before = stamps(out)
    with pytest.raises(RefusedError) as caught:
        run(job(num=2, **changes), tmp_path)
    assert caught.value.exit_code == 4
    for words in [*keys, str(tmp_path)]:
        assert words in str(caught.value)
    assert stamps(out) == before


def test_an_array_of_another_length_is_refused(job, tmp_path):
    run(job(num=2, kind="npz"), tmp_path)
    with pytest.raises(RefusedError, match="num was 2, now 3"):
        run(job(num=3, kind="npz"), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"num": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"kind": "gif"},
        {"shown": "Unicorn"},
        {"batch_size": 0},
        {"settings": {"size": 30}},
        {"settings": {"steps": 0}},
        {"settings": {"guidance": -0.1}},
        {"settings": {"scheduler": "DDPMScheduler"}},
        {"settings": {"guidance_interval": (0.5, 0.1)}},
        {"settings": {"guide": "dico-nano-fashion"}},
    ],
)
def test_a_job_that_cannot_work_writes_nothing(job, tmp_path, changes):
    with pytest.raises(UsageError):
        run(job(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_samples_can_be_evaluated(job, tmp_path):
    """Only the pictures of the job, not the overview beside them."""
    images = open_images(str(run(job(num=3), tmp_path)))
    assert images.length == 3
    assert len({tuple(batch.shape) for _, batch in images.batches([0, 1, 2])}) == 1


def test_sharded_weights_can_be_sampled(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    out = run(Job(str(tmp_path / "model"), None, 1, 0, Settings(steps=1)), tmp_path / "out")
    assert len(pictures(out)) == 1


@contextmanager
def largest_file(size: int):
    """Every write beyond `size` bytes fails, as on a full disk. Python ignores the signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_a_full_disk_leaves_what_was_there(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    small, large = Image.new("L", (64, 64)), Image.fromarray(noise)
    folder = SampleFolder(tmp_path, {"seed": 0}, kind, (2, 64, 64, 1))
    folder.write(Picture(0, 0, 0), small, None)
    before = folder.path(0).read_bytes()
    with largest_file(1500), pytest.raises(OutputError, match=r"free some space") as caught:
        folder.write(Picture(1, 0, 1), large, None)
    folder.close()
    assert caught.value.exit_code == 6
    assert folder.path(0).read_bytes() == before
    assert not folder.path(1).exists()
    assert leftovers(tmp_path) == []
    assert SampleFolder(tmp_path, {"seed": 0}, kind, (2, 64, 64, 1)).done == {0}


def test_an_array_on_a_full_disk(tmp_path):
    with largest_file(1500), pytest.raises(OutputError):
        SampleFolder(tmp_path, {"seed": 0}, "npz", (2, 64, 64, 1))
    assert leftovers(tmp_path) == []


def test_a_disk_that_fills_up_at_the_overview(tiny_model_folder, tmp_path):
    """As in a shell after `ulimit -f`: pictures fit, the overview of twenty of them does not."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "gensynth", "sample", "--model", str(tiny_model_folder)]
    done = subprocess.run(
        [*command, "--num", "20", "--steps", "1", "--out", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
    )
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("error:") == 1
    assert len(pictures(out)) == 20
    assert leftovers(out) == []


def test_a_folder_that_cannot_be_made(job, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        run(job(num=1), tmp_path / "file" / "out")


def test_pictures_of_another_size_than_the_models_are_said(tmp_path, capsys):
    run(Job("dico-nano-fashion", "Bag", 1, 0, Settings(steps=1)), tmp_path / "own")
    assert capsys.readouterr().err == ""
    run(Job("dico-nano-fashion", "Bag", 1, 0, Settings(steps=1, size=(32, 64))), tmp_path / "wide")
    assert (
        "was trained on 32x32 pixels; at 32x64 its pictures are likely" in capsys.readouterr().err
    )
