"""Regularizers in a run: checked early, added up, resumed, shared between processes."""

import json
from pathlib import Path

import pytest
import torch
from launching import command, launch, training
from tiny import losses, weights, write_experiment

from gensynth.config import Repa
from gensynth.errors import InputError, UsageError
from gensynth.experiments.build import build_condition, build_model
from gensynth.experiments.encoders import create_encoder
from gensynth.experiments.read import load_experiment
from gensynth.experiments.regularization import Regularization
from gensynth.training.loop import train

DICO = "model={name: DiCo-nano, hidden_size: 8, depth: [2, 1, 1, 1, 1]}"
DIT = "model={name: DiT-nano/2, input_size: 16, hidden_size: 32, depth: 3, num_heads: 2}"
BLOCKS = {DICO: ("levels.0.0", "levels.0.1"), DIT: ("blocks.0", "blocks.2")}
MODELS = pytest.mark.parametrize("model", [DICO, DIT], ids=["dico", "dit"])
TERMS = ["dispersive", "layersync", "repa"]


def regularizers(model: str) -> str:
    first, second = BLOCKS[model]
    return (
        f"regularizers=[{{name: dispersive, block: {first}, group_size: 2}}, "
        f"{{name: layersync, pairs: [[{first}, {second}]]}}, "
        f"{{name: repa, block: {second}, projector_dim: 16, image_size: 32, stage: s40}}]"
    )


def run(folder: Path, model: str, *overrides: str) -> Path:
    settings = [model, regularizers(model), "training.steps=6", *overrides]
    return train(load_experiment(write_experiment(folder), settings))


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def states(folder: Path) -> list[bytes]:
    """Weights of the model and of the projector, and the optimiser's state, at the end."""
    newest = sorted((folder / "checkpoints").glob("step-????????"))[-1] / "state"
    return [path.read_bytes() for path in sorted(newest.glob("*.safetensors"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs, by model."""
    return {model: run(tmp_path_factory.mktemp("whole"), model) for model in BLOCKS}


@MODELS
def test_terms_are_logged_and_add_up(model, whole):
    for entry in logged(whole[model]):
        values = [entry["denoising"], *(entry[name] for name in TERMS)]
        total = sum(w * v for w, v in zip([1, 0.5, 0.2, 0.5], values, strict=True))
        assert entry["loss"] == pytest.approx(total, rel=1e-5)
        assert entry["dispersive"] <= 0 and -1 <= entry["layersync"] <= 1
    first, last = logged(whole[model])[0], logged(whole[model])[-1]
    assert last["repa"] < first["repa"]


@MODELS
def test_resumed_run_is_bit_equal(model, whole, tmp_path):
    run(tmp_path, model, "training.steps=3")
    resumed = run(tmp_path, model)
    assert losses(resumed) == losses(whole[model])
    assert weights(resumed) == weights(whole[model])
    assert len(states(resumed)) == 2
    assert states(resumed) == states(whole[model])


@MODELS
def test_two_processes_that_accumulate_change_only_rounding(model, whole, tmp_path):
    config = write_experiment(tmp_path)
    settings = [regularizers(model), "training.steps=6", "training.gradient_accumulation=2"]
    done = launch(command, *training(config, model, *settings), processes=2)
    assert done.returncode == 0, done.stderr
    for entry, expected in zip(logged(tmp_path / "run"), logged(whole[model]), strict=True):
        for name in ("loss", "denoising", *TERMS):
            assert entry[name] == pytest.approx(expected[name], rel=1e-5)


def test_checkpointing_changes_nothing(whole, tmp_path):
    other = run(tmp_path, DIT, "training.gradient_checkpointing=true")
    assert losses(other) == losses(whole[DIT])


def test_masked_passes_and_bf16(tmp_path):
    """MDTv2's second pass sees fewer tokens; the terms read the first."""
    model = "model={name: MDTv2-S/2, input_size: 16, hidden_size: 32, depth: 4, num_heads: 2, "
    model += "decode_layer: 2}"
    BLOCKS[model] = ("encoder_in.0", "decoder.0")
    try:
        settings = ["training.steps=2", "training.mixed_precision=bf16"]
        folder = run(tmp_path, model, *settings)
    finally:
        del BLOCKS[model]
    assert all(name in logged(folder)[-1] for name in TERMS)


def test_nothing_of_it_is_exported(whole):
    model = whole[DIT] / "model"
    assert {path.name for path in model.iterdir()} >= {"model", "model_index.json"}
    names = (model / "model" / "diffusion_pytorch_model.safetensors").read_bytes()[:20000]
    assert b"blocks.0" in names and b"projector" not in names


def test_without_terms_nothing_is_logged_or_saved(tmp_path):
    folder = train(load_experiment(write_experiment(tmp_path), ["training.steps=1"]))
    assert not {"denoising", *TERMS} & logged(folder)[0].keys()
    assert len(states(folder)) == 1


REFUSED = {
    "[{name: dispersive, block: blocks.9}]": r"no hidden state 'blocks.9'.*blocks.0 to 2",
    "[{name: dispersive, block: blocks.0, group_size: 3}]": "group_size 3 does not divide the 8",
    "[{name: layersync, pairs: [[blocks.1, blocks.1]]}]": "its gradient zero",
    "[{name: layersync, pairs: [[blocks.1]]}]": r"'regularizers.0.pairs.0'",
    "[{name: layersync, blocks: []}]": r"unknown key 'regularizers.0.blocks'.*Known: name, pairs",
    "[{name: repa}]": "'regularizers.0.block' is missing",
    "[{name: repa, block: blocks.0, encoder: dinov2}]": "dinov2 needs a path",
    "[{name: repa, block: blocks.0, encoder: dinov3}]": "'lite0' or 'dinov2'",
    "[{name: reppa, block: blocks.0}]": "'regularizers.0.name' must be one of dispersive",
    "[{block: blocks.0}]": "'regularizers.0.name' must be one of dispersive",
}


@pytest.mark.parametrize("value", REFUSED)
def test_refused_before_anything_loads(value, tmp_path):
    config = write_experiment(tmp_path)
    with pytest.raises(UsageError, match=REFUSED[value]):
        load_experiment(config, [DIT, f"regularizers={value}"])


def test_group_across_processes_is_refused(tmp_path):
    terms = "regularizers=[{name: dispersive, block: blocks.0, group_size: 8}]"
    experiment = load_experiment(write_experiment(tmp_path), [DIT, terms])
    model = build_model(experiment, build_condition(experiment, [*"0123456789"]))
    with pytest.raises(UsageError, match="group_size 8 does not divide the 4 images"):
        Regularization(experiment, model, processes=2)


def images(size: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("stage", "side"), [("s40", 8), ("s112", 4), ("s320", 2)])
def test_lite0_maps_average_to_the_metrics_features(stage, side, lite0):
    encoder = create_encoder(Repa(name="repa", block="b", stage=stage))
    features = encoder(images(32, channels=1))
    assert features.shape == (2, encoder.dim, side, side) and not features.requires_grad
    torch.testing.assert_close(features.mean(dim=(2, 3)), lite0(images(32, channels=1))[stage])


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    """A tiny DINOv2 with random weights, saved as the hub's are."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.Dinov2Config(**sizes, patch_size=14, image_size=224)
        model = transformers.Dinov2Model(config)
    folder = tmp_path_factory.mktemp("dinov2")
    model.save_pretrained(folder)
    return folder


def test_dinov2_gives_its_patch_tokens_in_place(dinov2):
    encoder = create_encoder(Repa(name="repa", block="b", encoder="dinov2", path=str(dinov2)))
    features = encoder(images(256))
    assert features.shape == (2, 12, 16, 16) and not features.requires_grad
    pixels = encoder.preprocess(images(256))
    tokens = encoder.network(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens[:, 1:])
    # Black is -mean / std of ImageNet; 512 pixels are seen at 448.
    black = encoder.preprocess(torch.zeros(1, 1, 512, 512, dtype=torch.uint8))
    assert black.shape == (1, 3, 448, 448)
    assert black[0, :, 0, 0].tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-3)


def test_dinov2_trains(dinov2, tmp_path):
    term = f"{{name: repa, block: blocks.1, encoder: dinov2, path: {dinov2}, image_size: 28}}"
    config = write_experiment(tmp_path)
    folder = train(load_experiment(config, [DIT, f"regularizers=[{term}]", "training.steps=2"]))
    assert len(logged(folder)) == 2


def test_other_encoders_and_patches_are_refused(dinov2, tmp_path):
    section = {"name": "repa", "block": "b", "encoder": "dinov2"}
    with pytest.raises(UsageError, match="image_size 30 is not a multiple of the patch 14"):
        create_encoder(Repa(**section, path=str(dinov2), image_size=30))
    with pytest.raises(InputError, match=r"there is no encoder at .*nowhere"):
        create_encoder(Repa(**section, path=str(tmp_path / "nowhere")))
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    vit = transformers.ViTModel(transformers.ViTConfig(**sizes, intermediate_size=8))
    vit.save_pretrained(tmp_path / "vit")
    with pytest.raises(UsageError, match="is a vit, not a dinov2"):
        create_encoder(Repa(**section, path=str(tmp_path / "vit")))
