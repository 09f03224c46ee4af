"""Published checkpoints -> runs of one's own that begin with them."""

import json

import pytest
import torch
import yaml
from PIL import Image
from states import SMALL, changes, official, random_model, store

import gensynth
from gensynth.convert.checkpoint import convert
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

# As folders of pictures are called: two of ImageNet's names, one of its WordNet ids, and one's own.
OWN = ["goldfish", "golden retriever", "n02123045", *(f"my thing {n}" for n in range(7))]
ROWS = {"goldfish": 1, "golden retriever": 207, "n02123045": 281}
TABLE = "class_embedder.weight"


@pytest.fixture(scope="module")
def published(tmp_path_factory, tiny_vae_folder):
    """A model of 1,000 classes in DiT's own layout, with random weights, converted."""
    folder = tmp_path_factory.mktemp("published")
    name, size = SMALL["dit"]
    model = random_model(name, num_classes=1000, input_size=8, **size)
    file = store(folder / "DiT.pt", {"ema": official("dit", model)})
    convert("dit", file, folder / "dit", name, str(tiny_vae_folder), 64, changes("dit"))
    return folder / "dit"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures of each of ten classes of one's own."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(OWN):
        (folder / name).mkdir()
        for shade in (40, 200):
            Image.new("RGB", (64, 64), (shade, 20 * number, 99)).save(
                folder / name / f"{shade}.png"
            )
    return folder


def experiment(folder, published, pictures, vae, *overrides):
    tree = {
        "output": str(folder / "run"),
        "init_from": str(published),
        "data": {"source": "imagefolder", "path": str(pictures), "size": 64, "workers": 0},
        "autoencoder": {"kind": "kl", "path": str(vae)},
        "model": {"name": "DiT-nano/2", **SMALL["dit"][1]},
        "objective": {"name": "ddpm"},
        "training": {"steps": 2, "batch_size": 4, "log_every": 1},
        "ema": {"decay": 0.5},
        "sampling": {"steps": 2},
    }
    folder.mkdir(exist_ok=True)
    (folder / "own.yaml").write_text(yaml.safe_dump(tree))
    return load_experiment(folder / "own.yaml", list(overrides))


def test_1000_classes_become_10_of_ones_own(published, pictures, tiny_vae_folder, tmp_path, capsys):
    still = ["optimizer.lr=1e-30", "optimizer.weight_decay=0"]
    run = train(experiment(tmp_path, published, pictures, tiny_vae_folder, *still))
    before = gensynth.load(published, device="cpu").model.state_dict()
    pipe = gensynth.load(run, device="cpu")
    after = pipe.model.state_dict()
    assert sorted(pipe.classes) == sorted(OWN) and after[TABLE].shape == (11, 16)
    for name, row in ROWS.items():
        torch.testing.assert_close(after[TABLE][pipe.classes.index(name)], before[TABLE][row])
    torch.testing.assert_close(after[TABLE][10], before[TABLE][1000])  # no class
    rest = [name for name in before if name != TABLE]
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in rest)
    said = capsys.readouterr().err
    row = next(line for line in said.splitlines() if line.strip().startswith("class_embedder"))
    assert '3 of 10 classes, with "no class"' in row and "7 classes" in row
    assert [picture.size for picture in pipe(["goldfish"], [0])] == [(64, 64)]


def test_ten_classes_by_adapters_alone(published, pictures, tiny_vae_folder, tmp_path):
    lora = "lora={rank: 2, targets: ['blocks.*.mixer', '*.mlp_*']}"
    run = train(experiment(tmp_path, published, pictures, tiny_vae_folder, lora))
    pipe = gensynth.load(published, device="cpu", lora=run)
    assert sorted(pipe.classes) == sorted(OWN) and type(pipe).__name__ == "ClassConditionalPipeline"
    base = json.loads((run / "adapter/base.json").read_text())
    assert base["model"]["num_classes"] == 10
    merged = gensynth.load(run, device="cpu")
    sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    outputs = [one.model(sample, 10.0, torch.tensor([3, 10])) for one in (pipe, merged)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)


def test_another_size_has_its_positions_computed(published, pictures, tiny_vae_folder, tmp_path):
    given = ["data.size=128", "training.steps=1", "training.freeze=[patch_embed]"]
    run = train(experiment(tmp_path, published, pictures, tiny_vae_folder, *given))
    table = gensynth.load(run, device="cpu").model.state_dict()["token_positions.table"]
    fresh = random_model("DiT-nano/2", input_size=16, **SMALL["dit"][1]).state_dict()
    assert torch.equal(table, fresh["token_positions.table"])
