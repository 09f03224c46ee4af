"""Every configuration that ships loads, and trains two steps with a narrow model."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from gensynth.autoencoders import VQAutoencoder
from gensynth.config import Experiment
from gensynth.config.data import BUNDLED
from gensynth.experiments.read import load_experiment, read_experiment
from gensynth.models import preset
from gensynth.pretrained import CODECS
from gensynth.training.loop import train

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(ROOT.glob("configs/*/*.yaml"))
NARROW = {
    "DiC": {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
    "DiCo": {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
    "DiT": {"hidden_size": 32, "depth": 2, "num_heads": 2},
    "MaskGIT": {"hidden_size": 16, "depth": 1, "num_heads": 2},
    "VQAutoencoder": {"widths": [4, 4, 4], "latent_channels": 4, "norm_groups": 2},
    "LatentVQ": {"widths": [4], "latent_channels": 4, "norm_groups": 2},
    "MDTv2": {"hidden_size": 32, "depth": 4, "decode_layer": 2, "num_heads": 2},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Eight colour pictures of two classes, with captions."""
    path = tmp_path_factory.mktemp("images") / "images.parquet"
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(8)]
    encoded = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "png")
        encoded.append({"bytes": file.getvalue(), "path": None})
    table = {"image": encoded, "label": [0, 1] * 4, "text": ["a cat", "a dog"] * 4}
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> Path:
    """A VAE with random weights and the shape of Stable Diffusion's latents."""
    folder = tmp_path_factory.mktemp("vae")
    with torch.random.fork_rng():
        AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[4, 4, 4, 4],
            layers_per_block=1,
            norm_num_groups=2,
            scaling_factor=0.18215,
            mid_block_add_attention=False,
        ).save_pretrained(folder)
    return folder


def save_tokenizer(experiment: Experiment, folder: Path) -> None:
    """A tokenizer with random weights that is what the `autoencoder:` section says."""
    section = experiment.autoencoder
    levels = section.patch.bit_length()
    VQAutoencoder(
        channels=experiment.data.channels,
        widths=[4] * levels,
        layers=1,
        latent_channels=4,
        codebook_size=section.codebook_size,
        attention=False,
        norm_groups=2,
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def teacher(pretrained_folder, tmp_path_factory):
    """Name of a configuration -> a tiny teacher in the place of its own."""
    ours: list[Path] = []

    def of(name: str) -> Path:
        kind = {"sd15": "sd", "sd21": "sd"}.get(start := name.partition("_")[0], start)
        if kind != "emoji":
            return pretrained_folder(kind)
        if not ours:
            narrow = "hidden_size: 32, depth: 2, num_heads: 2"
            overrides = [
                f"model={{name: DiT-nano/2, patch_size: 1, {narrow}}}",
                *("condition.width=16", "condition.layers=1", "condition.heads=2"),
                *("condition.vocabulary=300", "training.steps=1", "training.batch_size=2"),
                *("training.mixed_precision='no'", f"output='{tmp_path_factory.mktemp('ours')}'"),
            ]
            budget = ROOT / "configs" / "emoji" / "equal_budget.yaml"
            ours.append(train(load_experiment(budget, overrides)))
        return ours[0]

    return of


def test_there_is_one_for_every_system():
    names = {path.relative_to(ROOT / "configs").as_posix() for path in CONFIGS}
    systems = {"dit_xl2", "sit_xl2", "dic_xl", "dico_xl", "mdtv2_xl2"}
    nano = {"dit_nano", "sit_nano", "dic_nano", "dico_nano", "mdtv2_nano"}
    assert {f"imagenet{size}/{name}.yaml" for size in (256, 512) for name in systems} <= names
    masked = {"vq_nano", "maskgit_nano"}
    assert {f"fashion_mnist/{name}.yaml" for name in masked} <= names
    assert {f"{d}/{name}.yaml" for d in ("cifar10", "tiny_imagenet") for name in nano} <= names


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_two_steps(path, images, vae, teacher, tmp_path):
    full = read_experiment(path)
    if full.objective.name == "distill":
        # of fewer attentions than four, at the size of tiny pipelines
        overrides = [f"objective.teacher='{teacher(path.stem)}'", "objective.every=1"]
        overrides += ["data.size=64", "training.gradient_checkpointing=false"]
    else:
        narrow = NARROW[preset(full.model.name)[0].__name__]
        overrides = [f"model.{key}={value}" for key, value in narrow.items()]
    overrides += ["training.compile=false"]  # tens of seconds
    if full.data.source not in BUNDLED:
        overrides += ["data.source=parquet", f"data.path='{images}'"]
    if full.autoencoder.kind == "kl" and full.autoencoder.path not in CODECS:
        overrides += [f"autoencoder.path='{vae}'"]
    if full.init_from is not None:
        overrides += ["init_from=null"]
    if full.autoencoder.kind == "vq":
        save_tokenizer(full, tmp_path / "tokenizer")
        overrides += [f"autoencoder.path='{tmp_path / 'tokenizer'}'"]
    run = train(
        load_experiment(
            path,
            [
                *overrides,
                f"output='{tmp_path / 'run'}'",
                "data.workers=0",
                "training.steps=2",
                "training.batch_size=2",
                "training.gradient_accumulation=1",
                "training.mixed_precision='no'",
                "training.log_every=1",
                "sampling.every=0",
            ],
        )
    )
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert (run / "model" / "model_index.json").is_file()
