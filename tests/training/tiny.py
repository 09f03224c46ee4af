"""A run small enough to be repeated in a test: 20 grey images, a model of 60,000 weights."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gensynth.data.sources import BUNDLED

BATCH = 8
IMAGES = 20  # not a multiple of the batch: epochs end in the middle of one


def write_experiment(folder: Path, **changes) -> Path:
    """A YAML file of a tiny experiment whose output is `folder/run`; changes are "a.b": value."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(BUNDLED / "train.parquet").slice(0, IMAGES)
    pq.write_table(pa.table(table, schema=table.schema), folder / "images.parquet")
    tree = {
        "output": str(folder / "run"),
        "data": {
            "source": "parquet",
            "path": str(folder / "images.parquet"),
            "channels": 1,
            "fit": "pad",
            "flip": True,
            "workers": 0,
        },
        "autoencoder": {"kind": "pixels", "patch": 2},
        "model": {"name": "DiCo-nano", "hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
        "objective": {"name": "flow", "time": "logit-normal"},
        "optimizer": {"lr": 1e-3, "clip": 1.0, "warmup_steps": 3},
        "training": {"steps": 12, "batch_size": BATCH, "log_every": 1},
        "ema": {"decay": 0.9},
        "checkpoint": {"every": 4},
        "sampling": {"steps": 2},
    }
    return _written(folder / "experiment.yaml", tree, changes)


def write_tokenizer(folder: Path, **changes) -> Path:
    """A tiny tokenizer's experiment, with a discriminator and with codes that are replaced."""
    path = write_experiment(folder)
    tree = yaml.safe_load(path.read_text())
    tree["autoencoder"] = {"kind": "none"}
    tree["model"] = {
        "name": "VQ-nano",
        "widths": [4, 4, 4],
        "latent_channels": 4,
        "codebook_size": 16,
        "codebook_dim": 4,
        "norm_groups": 2,
    }
    tree["objective"] = {
        "name": "reconstruction",
        "adversarial": 0.1,
        "adversarial_start": 2,
        "revive_every": 3,
    }
    return _written(path, tree, changes)


def write_masked(folder: Path, tokenizer: Path, **changes) -> Path:
    """A tiny MaskGIT's experiment on the 8 x 8 tokens of the tokenizer in a folder."""
    path = write_experiment(folder)
    tree = yaml.safe_load(path.read_text())
    codec = {"kind": "vq", "path": str(tokenizer), "patch": 4, "codebook_size": 16}
    tree["autoencoder"] = codec
    tree["model"] = {"name": "MaskGIT-nano", "hidden_size": 16, "num_heads": 2, "depth": 1}
    tree["objective"] = {"name": "masked"}
    return _written(path, tree, changes)


def _written(path: Path, tree: dict, changes: dict) -> Path:
    for key, value in changes.items():
        section, name = key.split(".")
        tree[section][name] = value
    path.write_text(yaml.safe_dump(tree))
    return path


def losses(run: Path) -> dict[int, float]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines)}


def weights(run: Path) -> tuple[bytes, bytes]:
    """The bytes of the averaged weights and of the raw ones at the end of a run."""
    newest = sorted((run / "checkpoints").glob("step-????????"))[-1]
    averaged = run / "model" / "model" / "diffusion_pytorch_model.safetensors"
    return averaged.read_bytes(), (newest / "state" / "model.safetensors").read_bytes()
