"""Pictures in several stages: what a kill leaves, and what the same command makes of it."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gensynth.cli import main as command
from gensynth.errors import UsageError
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.pipelines.highres.progressive import Progressive
from gensynth.sampling.job import Job, run
from gensynth.sampling.outputs import read_recipe
from gensynth.sampling.stages import StageFolder
from gensynth.settings import Settings
from gensynth.values import read_growth

HOW = Settings(steps=2, size=64, strategy="progressive")


@pytest.fixture
def job(tiny_model_folder):
    return Job(str(tiny_model_folder), None, 3, 5, HOW)


def pixels(folder: Path) -> list[bytes]:
    return [Image.open(path).tobytes() for path in sorted(folder.glob("0*.png"))]


class Cut(Exception):
    pass


def test_a_picture_goes_on_from_its_last_stage(job, tmp_path, monkeypatch):
    expected = pixels(run(job, tmp_path / "whole"))
    assert len(expected) == 3 and not (tmp_path / "whole" / "stages").exists()
    refine, drawn = Progressive.refine, []

    def cut(self, pipeline, items, seeds, *rest):
        if seeds == [6]:
            raise Cut
        return refine(self, pipeline, items, seeds, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Progressive, "refine", cut)
        with pytest.raises(Cut):
            run(job, tmp_path / "cut")
    stages = tmp_path / "cut" / "stages"
    assert [path.name for path in stages.iterdir()] == ["6-0.safetensors"]
    assert len(pixels(tmp_path / "cut")) == 1

    from gensynth.pipelines.highres import progressive

    noise = progressive.from_noise

    def counted(pipeline, items, seeds, resolved):
        drawn.extend(seeds)
        return noise(pipeline, items, seeds, resolved)

    monkeypatch.setattr(progressive, "from_noise", counted)
    assert pixels(run(job, tmp_path / "cut")) == expected
    assert drawn == [7]  # 5 was finished, and the first stage of 6
    assert not stages.exists()


def test_killed_in_the_middle(tiny_model_folder, tmp_path):
    """As `kill -9` does; the stages are on disk and the command ends as if nothing had been."""
    words = ["sample", "--model", str(tiny_model_folder), "-n", "1", "--steps", "2"]
    words += ["--size", "128", "--strategy", "progressive", "--strategy-option"]
    words += ["refine_steps=150", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, "-m", "gensynth", *words], env=environment, stderr=subprocess.DEVNULL
    )
    stage = tmp_path / "out" / "stages" / "0-0.safetensors"
    deadline = time.monotonic() + 60
    while not stage.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert stage.exists() and not pixels(tmp_path / "out")
    with pytest.raises(SystemExit) as ended:
        command(words)
    assert not ended.value.code and len(pixels(tmp_path / "out")) == 1 and not stage.exists()


def test_stages_on_disk(tmp_path):
    stages = StageFolder(tmp_path / "stages")
    assert stages.get(1, 0) is None
    stages.drop(1)
    latents = torch.randn(4, 3, 5).transpose(1, 2)
    stages.put(1, 0, latents)
    stages.put(12, 0, latents)
    assert torch.equal(stages.get(1, 0), latents) and stages.get(1, 1) is None
    stages.path(1, 0).write_bytes(stages.path(1, 0).read_bytes()[:40])
    assert stages.get(1, 0) is None  # drawn anew
    stages.drop(1)
    assert torch.equal(stages.get(12, 0), latents)
    stages.drop(12)
    assert not (tmp_path / "stages").exists()


def test_upscaling(tiny_pipeline):
    picture = tiny_pipeline([3], [1])[0]
    (large,) = tiny_pipeline.upscale(picture, 3, times=3)
    assert large.size == (96, 96)
    small = np.asarray(large.resize((32, 32), Image.Resampling.BOX), dtype=float)
    own = np.asarray(picture, dtype=float)
    assert np.corrcoef(small.ravel(), own.ravel())[0, 1] > 0.9  # it shows the same
    one, other = tiny_pipeline.upscale(picture.convert("RGBA"), 3, size=(64, 40), seeds=[1, 2])
    assert one.size == (40, 64) and one.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"times": 0.5}, "more than 1 time"),
        ({"size": (32, 32)}, "not larger than the picture, which has 32x32"),
        ({"size": (60, 64)}, "multiple"),
        ({"strategy": "tiled"}, "leave the strategy out"),
        ({"scheduler": "FlowODEScheduler"}, "FlowODEScheduler does not"),
    ],
)
def test_upscaling_refuses(tiny_pipeline, how, words):
    with pytest.raises(UsageError, match=words):
        tiny_pipeline.upscale(Image.new("L", (32, 32)), 3, **how)


def test_growth():
    assert read_growth("4x") == 4 and read_growth("1.5x") == 1.5
    assert read_growth("512") == (512, 512) and read_growth("64x96") == (64, 96)
    for wrong in ("x", "0.5x", "1x", "manyx", "4X4X4", "-2x", "nanx"):
        with pytest.raises(UsageError, match="--to must look like"):
            read_growth(wrong)


def test_the_command(tiny_model_folder, tmp_path, capsys):
    source, out = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("L", (32, 32), 90).save(source)
    words = ["upscale", str(source), "--to", "2x", "--model", str(tiny_model_folder)]
    words += ["--label", "3", "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        command(words)
    assert not ended.value.code and Image.open(out).size == (64, 64)
    recipe = read_recipe(out)
    assert recipe["upscale"]["image"] == "small.png" and recipe["strategy"] == "progressive"
    assert capsys.readouterr().out.strip() == str(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.png", "small.png"]
    with pytest.raises(SystemExit) as ended:
        command([*words[:-1], str(tmp_path / "again.png"), "--label", "none"])
    assert ended.value.code
    for end, told in (("large.jpg", "must end in .png or .webp"), ("large", "must end in .png")):
        with pytest.raises(SystemExit):
            command([*words[:-1], str(tmp_path / end)])
        assert told in capsys.readouterr().err


def test_a_model_of_classes_has_to_know(tiny_model_folder, tmp_path, capsys):
    source = tmp_path / "small.png"
    Image.new("L", (32, 32), 90).save(source)
    words = ["upscale", str(source), "--model", str(tiny_model_folder), "--out"]
    with pytest.raises(SystemExit):
        command([*words, str(tmp_path / "large.png")])
    assert "give --label" in capsys.readouterr().err


def test_the_note_says_what_helps(tiny_model_folder, tmp_path, capsys):
    """Only where nobody has chosen, and its advice is taken."""
    words = ["sample", "--model", str(tiny_model_folder), "-n", "1", "--steps", "2"]
    for more, told in (
        ([], ""),
        (["--size", "64"], "Add --strategy progressive, or leave out --size"),
        (["--size", "16"], "worse. Leave out --size"),
        (["--size", "64", "--strategy", "progressive"], ""),
        (["--size", "64", "--strategy", "direct"], ""),
        (["--size", "64", "--scheduler", "FlowODEScheduler"], "worse. Leave out --size"),
    ):
        with pytest.raises(SystemExit) as ended:
            command([*words, *more, "--out", str(tmp_path / "".join(more).replace("-", ""))])
        said = capsys.readouterr().err
        assert not ended.value.code and (told in said if told else "trained on" not in said)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_large_pictures_are_written_row_by_row(job, tmp_path, monkeypatch, kind):
    """The same picture, to a grey level, and its pixels are never asked for at once."""
    from gensynth.pipelines.highres import decoding

    job = replace(job, num=2, kind=kind, settings=HOW.but(size=(72, 64)))
    expected = run(job, tmp_path / "small")
    monkeypatch.setattr(decoding, "LARGE", 60 * 60)
    monkeypatch.setattr(DrawingPipeline, "draw", lambda *_, **__: pytest.fail("drawn whole"))
    large = run(job, tmp_path / "large")
    for name in (f"000000.{kind}", f"000001.{kind}"):
        one, other = (np.asarray(Image.open(path / name), float) for path in (expected, large))
        assert one.shape == (72, 64) and np.abs(one - other).max() <= 1
    assert read_recipe(large / f"000000.{kind}") == read_recipe(expected / f"000000.{kind}")
    assert not (large / "grid.png").exists() and (expected / "grid.png").exists()
    assert not (large / "stages").exists()
