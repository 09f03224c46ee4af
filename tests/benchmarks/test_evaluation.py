"""The benchmark of evaluation runs in miniature, and its ladder tells what rises."""

import io
import json

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pillow

from gensynth.errors import UsageError
from gensynth_benchmarks import evaluation as bench
from gensynth_benchmarks import evaluation_ladder as ladder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two Parquet files of 48 smooth pictures in four classes."""
    folder = tmp_path_factory.mktemp("data")
    names = ["a", "b", "c", "d"]
    for number, split in enumerate(("train", "test")):
        generator = torch.Generator().manual_seed(number)
        rows = {"image": [], "label": []}
        for index in range(48):
            coarse = torch.randint(256, (4, 4, 3), dtype=torch.uint8, generator=generator)
            coarse[..., 0] = 64 * (index % 4)
            stream = io.BytesIO()
            Pillow.fromarray(coarse.numpy()).resize((32, 32)).save(stream, "png")
            rows["image"].append({"bytes": stream.getvalue(), "path": None})
            rows["label"].append(index % 4)
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
        Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}.parquet")
    return folder


def test_a_ladder_with_its_plot(data, tmp_path, capsys):
    found = ladder.main(data, tmp_path, 24, {"noise": (16, 64), "blur": (4,), "classes": (2,)})
    assert found.num == 24 and len(found.rungs) == 4
    assert set(found.floor) == {"s40", "s112", "s320", "h1280"}
    assert found.rises("noise", "s40")
    content = json.loads((tmp_path / "evaluation_ladder.json").read_text())
    assert content["rungs"][0]["distances"] == found.rungs[0].distances
    assert Pillow.open(tmp_path / "evaluation_ladder.png").size == (1200, 360)
    printed = capsys.readouterr().out
    assert "noise: rises with every rung in" in printed
    assert "noise: rises with every rung in" in (tmp_path / "evaluation_ladder.md").read_text()


def test_what_rises_and_what_does_not():
    rungs = [
        ladder.Rung("blur", 1, {"s40": 2.0, "s112": 3.0}),
        ladder.Rung("blur", 2, {"s40": 4.0, "s112": 2.5}),
    ]
    found = ladder.Ladders(8, {"s40": 1.0, "s112": 1.0}, rungs)
    assert found.rises("blur", "s40") and not found.rises("blur", "s112")
    assert list(ladder.verdicts(found)) == [
        "blur: rises with every rung in s40",
        "blur: does not rise with every rung in s112",
    ]
    below = ladder.Ladders(8, {"s40": 2.5, "s112": 1.0}, rungs)
    assert not below.rises("blur", "s40")  # the floor is the first rung


def test_degraded_images():
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[..., 16:] = 200
    soft = ladder.blurred(image, 2.0)
    assert 0 < int(soft[0, 0, 16, 15]) < 200 and int(soft[0, 0, 16, 0]) == 0
    grey = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    noise = ladder.noisy(grey, 8.0)
    assert noise.dtype == torch.uint8
    assert float(noise.float().std()) == pytest.approx(8, rel=0.05)


def test_images_of_classes_in_equal_numbers(data):
    from gensynth.data.files.image_set import open_images

    images = open_images(str(data / "test.parquet"))
    assert len(ladder.images_of(images, [0, 1, 2, 3], 20)) == 20
    two = ladder.images_of(images, [0, 1], 20)
    assert len(two) == len({image.numpy().tobytes() for image in two}) == 20


def test_memory_beyond_the_extractor(monkeypatch):
    monkeypatch.setattr(bench, "DIMS", {"pool": 8, "spatial": 8, "logits": 8})
    monkeypatch.setenv("GENSYNTH_CACHE", "")  # put back what `memory_of` sets
    row = bench.memory_of(24, 24)
    assert row.images == 24 and row.peak_gib >= row.before_gib > 0.1
    assert row.beyond_gib == row.peak_gib - row.before_gib


def test_noise_is_a_function_of_the_number():
    images = bench.Noise(5, 1)
    (indices, batch), (_, last) = images.batches(range(5), 3)
    assert indices.tolist() == [0, 1, 2] and len(last) == 2
    assert torch.equal(batch[2], images.read(2)) and not torch.equal(batch[1], batch[2])


def test_the_ways_to_a_distance_agree():
    rows = bench.distances(16, 64)
    assert len(rows) == 3 and all(row.seconds > 0 for row in rows)
    assert rows[0].value == pytest.approx(rows[1].value, rel=1e-9)
    assert rows[0].value == pytest.approx(rows[2].value, rel=1e-6)


def test_speeds_of_extractors(monkeypatch, capsys):
    monkeypatch.setattr(bench, "SPEED_SIZES", {"lite0-64": (64, 2)})
    (row,) = bench.speeds(0.01, "cpu")
    assert (row.extractor, row.batch) == ("lite0-64", 2) and row.images_per_second > 0


def test_parts_and_their_files(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "SPEED_SIZES", {"lite0-64": (64, 2)})
    bench.main(0.01, tmp_path, ["speed"])
    assert "images/s" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        "evaluation_speed.json",
        "evaluation_speed.md",
    }
    assert json.loads((tmp_path / "evaluation_speed.json").read_text())["rows"][0]["batch"] == 2
    with pytest.raises(UsageError, match="no part 'size'"):
        bench.main(0.01, tmp_path, ["size"])
    with pytest.raises(UsageError, match="--data DIR"):
        bench.main(0.01, tmp_path)
