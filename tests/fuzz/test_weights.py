"""Checkpoints of others and model folders, damaged in many ways."""

import collections
import os
import pickle
import shutil
import struct
from pathlib import Path
from random import Random

import pytest
import torch
from harness import check, how_many
from mutations import damaged, json_damaged, odd
from safetensors.torch import save_file

import gensynth
from gensynth.convert.checkpoint import convert
from gensynth.convert.reading import read_state
from gensynth.training.session.checkpoint import Checkpoints

CODES = {0, 2, 3, 4, 8}
TENSORS = {
    "x_embedder.proj.weight": torch.zeros(8, 4, 2, 2),
    "pos_embed": torch.zeros(1, 4, 8),
    "t_embedder.mlp.0.weight": torch.ones(8, 256),
    "blocks.0.attn.qkv.weight": torch.ones(24, 8),
}


class Call:
    """What a pickle must not do."""

    def __reduce__(self):
        return os.getpid, ()


def odd_tensors(random: Random) -> dict:
    tensors = dict(TENSORS)
    name = random.choice(sorted(tensors))
    match random.randrange(8):
        case 0:
            tensors[name] = torch.full((2, 2), float("nan"))
        case 1:
            tensors[name] = torch.zeros(1).expand(10**6, 10**6)  # claims a terabyte times four
        case 2:
            tensors[name] = torch.eye(3).to_sparse()
        case 3:
            tensors[name] = odd(random)
        case 4:
            tensors = {f"_orig_mod.module.{key}": value for key, value in tensors.items()}
        case 5:
            tensors[name] = torch.zeros(0, 3)
        case 6:
            tensors[name] = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8)
    return tensors


def make_pickle(folder: Path, random: Random) -> Path:
    tensors = odd_tensors(random)
    content = random.choice(
        [
            tensors,
            {"ema": tensors, "model": tensors, "args": odd(random)},
            {"model": {"state_dict_ema": tensors}, "epoch": odd(random)},
            {"state_dict": collections.OrderedDict(tensors), "callbacks": {"a": [odd(random)]}},
            {"ema": odd(random)},
            [tensors],
            odd(random),
            {"ema": tensors, "optimizer": Call()},
        ]
    )
    path = folder / random.choice(("x.pt", "x.pth", "x.ckpt", "x.bin", "x"))
    if random.random() < 0.1:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=random.random() < 0.7)
    return path


def with_header(content: bytes, random: Random) -> bytes:
    """A safetensors file with another header, now and then of another length than it says."""
    length = int.from_bytes(content[:8], "little")
    header = json_damaged(content[8 : 8 + length], random)
    claimed = len(header) if random.random() < 0.8 else random.choice((0, 2**40, 2**63, 5))
    return struct.pack("<Q", claimed) + header + content[8 + length :]


def make_safetensors(folder: Path, random: Random) -> Path:
    path = folder / "x.safetensors"
    save_file(TENSORS, path)
    if random.random() < 0.7:
        path.write_bytes(with_header(path.read_bytes(), random))
    return path


def make_checkpoint(folder: Path, random: Random):
    path = random.choice((make_pickle, make_pickle, make_safetensors))(folder, random)
    if random.random() < 0.4:
        path.write_bytes(damaged(path.read_bytes(), random))
    if random.random() < 0.3:
        return lambda: convert(random.choice(("dit", "sit", "dico")), path, folder / "out")
    return lambda: read_state(path)


@how_many
def test_checkpoints(tmp_path, count):
    found = check(make_checkpoint, tmp_path, count, CODES)
    assert len(found) > 1


@how_many
def test_model_folders(tmp_path, count, tiny_model_folder):
    def make(folder: Path, random: Random):
        place = folder / "model"
        shutil.copytree(tiny_model_folder, place)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        for _ in range(random.choice((1, 1, 2))):
            path = random.choice(files)
            if path.is_symlink() or not path.exists():
                continue
            content = path.read_bytes()
            match random.randrange(8):
                case 0:
                    path.unlink()
                case 1:
                    path.unlink()
                    path.symlink_to(random.choice(("/dev/zero", "/etc/passwd", "gone", path.name)))
                case 2 | 3:
                    path.write_bytes(damaged(content, random))
                case _ if path.suffix == ".json":
                    path.write_bytes(json_damaged(content, random))
                case _ if path.suffix == ".safetensors" and content:
                    path.write_bytes(with_header(content, random))
        return lambda: gensynth.load(place, device="cpu")

    found = check(make, tmp_path, count, CODES)
    assert found.get(8, 0) > 0


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """Two checkpoints of a run, with contents as small as may be."""
    folder = tmp_path_factory.mktemp("run")
    for step in (1, 2):
        Checkpoints(folder, 2).save(step, lambda place: (place / "training.json").write_text("{}"))
    return folder


@how_many
def test_run_checkpoints(tmp_path, count, checkpoints):
    """The newest whole one is found, or the damage is said."""

    def make(folder: Path, random: Random):
        place = folder / "run"
        shutil.copytree(checkpoints, place)
        for _ in range(random.choice((1, 2, 3))):
            path = random.choice(sorted(path for path in place.rglob("*") if path.is_file()))
            content = path.read_bytes()
            manifest = path.name == "manifest.json" and random.random() < 0.7
            path.write_bytes(
                json_damaged(content, random) if manifest else damaged(content, random)
            )
            if random.random() < 0.2:
                path.unlink()
        return lambda: Checkpoints(place, 2).newest()

    check(make, tmp_path, count, {0, 8})
