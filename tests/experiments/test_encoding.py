"""Encoding once, and that training from it is training on the fly."""

import json
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from diffusers import AutoencoderKL

from gensynth.autoencoders import PixelAutoencoder, open_autoencoder
from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.config import Data
from gensynth.data.batches import load_batches
from gensynth.data.encoded import check_encoding
from gensynth.data.sources import open_source
from gensynth.data.training import Schedule, order
from gensynth.errors import CorruptError, OutputError, RefusedError, UsageError
from gensynth.experiments.encoding import encode, encode_source
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

COUNT = 11


def rows_file(folder: Path, files: list[bytes]) -> Path:
    """A Parquet file of images, their numbers modulo 3 as labels."""
    columns = {
        "image": [{"bytes": content, "path": None} for content in files],
        "label": [number % 3 for number in range(len(files))],
    }
    features = {
        "image": datasets.Image(decode=False),
        "label": datasets.ClassLabel(names=["a", "b", "c"]),
    }
    path = folder / "images.parquet"
    datasets.Dataset.from_dict(columns, datasets.Features(features)).to_parquet(path)
    return path


@pytest.fixture
def data(tmp_path, numbered) -> Data:
    path = rows_file(tmp_path, [numbered(20 * number) for number in range(COUNT)])
    return Data(source="parquet", path=str(path), size=8, channels=1, flip=True, workers=0)


def tokenizer() -> VQAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VQAutoencoder(
            channels=1,
            widths=(4, 4),
            layers=1,
            latent_channels=4,
            codebook_size=64,
            codebook_dim=2,
            norm_groups=2,
        ).requires_grad_(False)


def reading(data: Data, out: Path, **changes) -> Data:
    return data.model_copy(update={"source": "encoded", "path": str(out), **changes})


def batches(data: Data, seed: int = 3) -> list:
    schedule = Schedule(0, 5, 6)  # 30 positions: the third epoch has begun
    source = open_source(data)
    return list(load_batches(source, data, seed, schedule, (0, (0, 0)), torch.device("cpu")))


@pytest.mark.parametrize("codec", [PixelAutoencoder(1, 2), tokenizer()], ids=["pixels", "vq"])
@pytest.mark.parametrize("flip", [False, True])
def test_batches_are_those_of_encoding_on_the_fly(data, tmp_path, codec, flip):
    data = data.model_copy(update={"flip": flip})
    source = open_source(data)
    encoding = encode_source(source, data, codec, tmp_path / "out", batch_size=4)
    assert (encoding.count, encoding.unreadable) == (COUNT, 0)
    read = reading(data, tmp_path / "out")
    check_encoding(read, codec)
    assert open_source(read).classes == source.classes == ["a", "b", "c"]
    latents = []
    for fly, file in zip(batches(data), batches(read), strict=True):
        assert torch.equal(codec.encode(fly.images), file.latents)
        assert torch.equal(fly.labels, file.labels)
        latents.append(file.latents)
    kinds = len(torch.cat(latents).unique(dim=0))
    assert kinds > COUNT if flip else kinds == COUNT


def test_workers_and_the_size_of_a_batch_do_not_matter(data, tmp_path):
    source, codec = open_source(data), PixelAutoencoder(1, 2)
    for name, workers, size in (("a", 0, 1), ("b", 2, 4)):
        with_workers = data.model_copy(update={"workers": workers})
        encode_source(source, with_workers, codec, tmp_path / name, batch_size=size)
    one, other = (open_source(reading(data, tmp_path / name)).rows[:] for name in "ab")
    assert one == other


def test_a_stream_is_encoded_in_its_order(data, tmp_path):
    streamed = data.model_copy(update={"streaming": True})
    codec = PixelAutoencoder(1, 2)
    encode_source(open_source(data), data, codec, tmp_path / "a")
    encode_source(open_source(streamed), streamed, codec, tmp_path / "b", batch_size=4)
    one, other = (open_source(reading(data, tmp_path / name)).rows[:] for name in "ab")
    assert one == other


def test_a_stream_with_other_labels_is_refused(data, tmp_path):
    streamed = data.model_copy(update={"streaming": True, "classes": ["a", "b"]})
    with pytest.raises(UsageError, match="the stream has label 2"):
        encode_source(open_source(streamed), streamed, PixelAutoencoder(1, 2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Images that cannot be decoded


@pytest.mark.parametrize("streaming", [False, True])
def test_unreadable_images_are_left_out_and_counted(tmp_path, numbered, capsys, streaming):
    files = [numbered(number) for number in range(COUNT)]
    files[2] = files[3] = files[10] = b"no image"
    path = rows_file(tmp_path, files)
    section = Data(
        source="parquet",
        path=str(path),
        size=8,
        channels=1,
        workers=0,
        max_corrupt=0.5,
        streaming=streaming,
    )
    codec = PixelAutoencoder(1)
    # Batches of two: one has no readable image.
    encoding = encode_source(open_source(section), section, codec, tmp_path / "out", None, 2)
    assert (encoding.count, encoding.unreadable) == (COUNT - 3, 3)
    assert "3 unreadable images skipped" in capsys.readouterr().err
    read = reading(section, tmp_path / "out", streaming=False)
    rows = open_source(read).rows
    kept = [0, 1, 4, 5, 6, 7, 8, 9]
    assert rows["label"] == [number % 3 for number in kept]
    (batch, *_) = batches(read)
    shown = codec.decode(batch.latents)[:, 0, 0, 0].tolist()
    assert shown == [kept[index] for index in order(3, 0, len(kept))[:6]]


def test_too_many_unreadable_images_fail_and_leave_nothing(tmp_path, numbered):
    path = rows_file(tmp_path, [numbered(1), b"no image", numbered(2)])
    section = Data(source="parquet", path=str(path), size=8, channels=1, workers=0)
    with pytest.raises(CorruptError, match=r"1 of 3 images cannot be decoded.*row 1"):
        encode_source(open_source(section), section, PixelAutoencoder(1), tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["images.parquet"]


def test_latents_that_are_not_finite_are_refused(data, tmp_path, tiny_vae_folder):
    codec = open_autoencoder(str(tiny_vae_folder), "kl")
    codec.quant_conv.weight.data[0] = float("nan")
    data = data.model_copy(update={"channels": 3})
    with pytest.raises(CorruptError, match="not finite"):
        encode_source(open_source(data), data, codec, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# A whole experiment


@pytest.fixture
def experiment(data, tmp_path):
    """`experiment(codec, **data)`: a YAML file of a tiny run."""

    def write(autoencoder=None, **changes) -> Path:
        tree = {
            "output": str(tmp_path / "run"),
            "data": {"source": "parquet", "path": data.path, "size": 8, "channels": 1},
            "autoencoder": autoencoder or {"kind": "none", "patch": 1},
            "model": {"name": "DiCo-nano", "hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
            "objective": {"name": "flow"},
            "training": {"steps": 4, "batch_size": 4, "log_every": 1},
            "checkpoint": {"every": 4},
            "sampling": {"steps": 2},
        }
        tree["data"] |= {"flip": True, "workers": 0, **changes}
        if tree["autoencoder"]["kind"] == "vq":
            tree["model"] = {"name": "MaskGIT-nano", "hidden_size": 8, "depth": 1, "num_heads": 2}
            tree["objective"] = {"name": "masked"}
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["none", "vq"])
def test_a_run_from_the_file_has_the_losses_of_one_on_the_fly(experiment, tmp_path, kind):
    tokenizer().save_pretrained(tmp_path / "vq")
    tokens = {"kind": "vq", "path": str(tmp_path / "vq"), "patch": 2, "codebook_size": 64}
    path = experiment(tokens if kind == "vq" else None)
    encode(load_experiment(path), tmp_path / "latents")
    encoded = ["data.source=encoded", f"data.path={tmp_path / 'latents'}"]
    fly = losses(train(load_experiment(path)))
    file = losses(train(load_experiment(path, [*encoded, f"output={tmp_path / 'file'}"])))
    assert len(fly) == 4
    assert file == fly
    other = train(load_experiment(path, [*encoded, f"output={tmp_path / 'other'}", "seed=1"]))
    assert losses(other) != fly


def test_kl_keeps_the_mean_of_the_posterior(experiment, data, tmp_path, tiny_vae_folder):
    codec = {"kind": "kl", "patch": 8, "path": str(tiny_vae_folder)}
    path = experiment(codec, channels=3, size=64)
    encoding = encode(load_experiment(path), tmp_path / "out")
    assert (encoding.shape, encoding.dtype) == ([4, 8, 8], "float32")
    assert (encoding.codec.kind, encoding.codec.path) == ("kl", str(tiny_vae_folder))
    rgb = data.model_copy(update={"channels": 3, "size": 64})
    file, fly = batches(reading(rgb, tmp_path / "out"))[0], batches(rgb)[0]
    vae = AutoencoderKL.from_pretrained(tiny_vae_folder)
    with torch.no_grad():
        means = vae.encode(fly.images / 127.5 - 1).latent_dist.mean * vae.config.scaling_factor
    assert torch.allclose(file.latents, means, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "encoded"}, "encoded already"),
        ({"zoom": [1.0, 1.5]}, "data.zoom draws new crops"),
    ],
)
def test_what_cannot_be_encoded(experiment, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        encode(load_experiment(experiment(**changes)), tmp_path / "out")


def test_a_batch_needs_an_image(experiment, tmp_path):
    with pytest.raises(UsageError, match="--batch-size must be at least 1"):
        encode(load_experiment(experiment()), tmp_path / "out", batch_size=0)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_results_are_not_overwritten(experiment, tmp_path, what):
    out = tmp_path / "out"
    if what == "folder":
        out.mkdir()
    (out if what == "file" else out / "kept.txt").write_text("kept")
    with pytest.raises(RefusedError, match="not an empty folder"):
        encode(load_experiment(experiment()), out)
    assert (out if what == "file" else out / "kept.txt").read_text() == "kept"


def test_an_empty_folder_is_filled(experiment, tmp_path):
    (tmp_path / "out").mkdir()
    assert encode(load_experiment(experiment()), tmp_path / "out").count == COUNT
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data", "encoded.json"}


def test_a_place_that_cannot_be_written(experiment, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot go on"):
        encode(load_experiment(experiment()), tmp_path / "file" / "out")


def test_the_command_says_how_to_train(experiment, tmp_path, capsys):
    from gensynth.cli import main

    path, out = experiment(), tmp_path / "with space"
    with pytest.raises(SystemExit) as ended:
        main(["encode", "--config", str(path), "--out", str(out), "data.flip=false"])
    assert not ended.value.code
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{COUNT} images as float32 [1, 8, 8] in {out}"
    from_it = f"data.source=encoded 'data.path={out}'"
    assert second == f"Try: gensynth train --config {path} data.flip=false {from_it}"
