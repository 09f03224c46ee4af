"""Objective, model, autoencoder and data that do not work on the same thing are refused."""

from pathlib import Path

import pytest
import yaml

from gensynth.errors import UsageError
from gensynth.experiments.read import load_experiment

LATENTS = {"output": "out", "model": {"name": "DiCo-nano"}, "objective": {"name": "flow"}}
TOKENIZER = {
    "output": "out",
    "model": {"name": "VQ-nano"},
    "objective": {"name": "reconstruction"},
}
MASKED = {
    "output": "out",
    "autoencoder": {"kind": "vq", "path": "x", "patch": 4, "codebook_size": 512},
    "model": {"name": "MaskGIT-nano"},
    "objective": {"name": "masked"},
    "sampling": {"steps": 8},
}
TREES = {"latents": LATENTS, "tokenizer": TOKENIZER, "masked": MASKED}


@pytest.fixture
def write(tmp_path):
    def write(tree) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


@pytest.mark.parametrize("kind", TREES)
def test_what_fits_survives_a_round_trip(write, kind):
    experiment = load_experiment(write(TREES[kind]))
    path = write(yaml.safe_load(experiment.to_yaml()))
    assert load_experiment(path) == experiment


@pytest.mark.parametrize(
    ("kind", "overrides", "words"),
    [
        (
            "masked",
            ["model.name=DiCo-nano"],
            [
                "trains models of tokens",
                "DiCo-nano is one of latents",
                "flow or ddpm",
                "MaskGIT-nano",
            ],
        ),
        (
            "latents",
            ["model.name=MaskGIT-nano"],
            ["trains models of latents", "take objective masked", "DiT-XL/2"],
        ),
        ("latents", ["model.name=VQ-nano"], ["is a tokenizer", "take objective reconstruction"]),
        (
            "tokenizer",
            ["model.name=DiT-nano/2"],
            ["trains tokenizers", "one of latents", "VQ-nano"],
        ),
        (
            "masked",
            ["autoencoder={kind: none}"],
            ["objective masked trains on tokens; set autoencoder.kind=vq"],
        ),
        ("masked", ["autoencoder={kind: kl, path: x}"], ["set autoencoder.kind=vq"]),
        (
            "latents",
            ["autoencoder={kind: vq, path: x, patch: 4}"],
            ["set autoencoder.kind=none or kl"],
        ),
        ("tokenizer", ["autoencoder.patch=2"], ["autoencoder.kind=none and autoencoder.patch=1"]),
        (
            "tokenizer",
            ["autoencoder={kind: kl, path: x}"],
            ["autoencoder.kind=none and autoencoder.patch=1"],
        ),
        ("tokenizer", ["data={source: encoded, path: x}"], ["set a data.source of images"]),
        (
            "latents",
            ["data={source: encoded, path: x}", "regularizers=[{name: repa, block: levels.0.0}]"],
            ["regularizer repa looks at the images", "encoded"],
        ),
        (
            "masked",
            ["model.codebook_size=100"],
            ["model.codebook_size is 100", "autoencoder.codebook_size is 512", "leave it out"],
        ),
        (
            "tokenizer",
            ["model.channels=1"],
            ["model.channels is 1", "data.channels is 3", "leave it out"],
        ),
        ("masked", ["sampling.guided_channels=3"], ["guided_channels", "Leave it out"]),
        (
            "masked",
            ["sampling.steps=65"],
            ["sampling.steps must be from 1 to 64 for HaltonDecoder, got 65"],
        ),
        (
            "masked",
            ["sampling.scheduler=DDPMScheduler"],
            ["predicts tokens", "HaltonDecoder, ConfidenceDecoder"],
        ),
        (
            "masked",
            ["sampling.scheduler_options={warmup: 2}"],
            ["no option 'warmup'", "warmup_steps"],
        ),
        ("masked", ["sampling.guidance=2", "objective.label_dropout=0"], ["dropped labels"]),
        ("masked", ["objective.schedule=sine"], ["'objective.schedule'", "arccos"]),
        ("masked", ["model.hidden=7"], ["model.hidden", "hidden_size"]),
        ("masked", ["data.size=30"], ["not a multiple of autoencoder.patch 4"]),
        (
            "masked",
            ["autoencoder.path=null"],
            ["kind vq needs a path", "runs/fashion_mnist/vq_nano"],
        ),
        ("masked", ["autoencoder.latent_channels=4"], ["latent_channels is for kind kl"]),
        ("latents", ["autoencoder.codebook_size=4"], ["codebook_size is for kind vq"]),
        ("tokenizer", ["objective.label_dropout=0.1"], ["unknown key 'objective.label_dropout'"]),
        ("tokenizer", ["objective.entropy=-1"], ["'objective.entropy'"]),
        ("tokenizer", ["data.size=30"], ["VQ-nano needs", "divisible by 4"]),
        ("tokenizer", ["model.norm_groups=7"], ["cannot be built", "norm_groups=7"]),
        (
            "tokenizer",
            ["training.gradient_checkpointing=true"],
            ["gradient_checkpointing", "VQ-nano"],
        ),
    ],
)
def test_parts_that_do_not_fit(write, kind, overrides, words):
    with pytest.raises(UsageError) as caught:
        load_experiment(write(TREES[kind]), overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in words:
        assert part in message


def test_pixels_is_the_old_word_for_none(write):
    tree = {**LATENTS, "autoencoder": {"kind": "pixels", "patch": 2}}
    experiment = load_experiment(write(tree))
    assert experiment.autoencoder.kind == "none"
    assert load_experiment(write({**tree, "autoencoder": {"patch": 2}})) == experiment


def test_the_defaults_of_a_kind(write):
    tree = {**MASKED, "autoencoder": {"kind": "vq", "path": "x"}, "data": {"size": 256}}
    section = load_experiment(write(tree)).autoencoder
    assert (section.patch, section.codebook_size, section.gives) == (16, 16384, "tokens")


def test_the_model_takes_its_codes_from_the_autoencoder(write):
    from gensynth.conditions import Classes
    from gensynth.experiments.build import build_model

    ten = Classes([*"0123456789"], 10)
    model = build_model(load_experiment(write(MASKED), ["model.hidden_size=16"]), ten)
    assert (model.mask_token, model.grid_size, model.config.num_classes) == (512, (8, 8), 10)
    tokenizer = build_model(load_experiment(write(TOKENIZER), ["data.channels=1"]), ten)
    assert tokenizer.channels == 1


def test_how_to_sample_does_not_matter_to_a_tokenizer(write):
    tree = {**TOKENIZER, "sampling": {"guidance": 2.0, "steps": 5000, "guided_channels": 3}}
    assert load_experiment(write(tree)).sampling.guidance == 2
