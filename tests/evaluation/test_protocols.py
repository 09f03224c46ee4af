"""Every protocol can be drawn and measured, and what departs from one is told."""

import dataclasses
import re

import pytest
import torch
from PIL import Image

from gensynth.autoencoders import VQAutoencoder
from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.autoencoders.pixels import PixelAutoencoder
from gensynth.data.files.image_set import open_images
from gensynth.errors import UsageError
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.evaluation.protocols.protocols import PROTOCOLS, find_protocol
from gensynth.evaluation.protocols.runs import (
    UNKNOWN_DRAWING,
    UNKNOWN_HASH,
    add_protocol,
    check_alone,
    departures,
    describe,
    evaluate_protocol,
    label,
)
from gensynth.evaluation.references.published import PUBLISHED
from gensynth.metrics.extractors import EXTRACTORS
from gensynth.models import MODELS, create_model, preset
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.samplers.registry import create_scheduler

# Of each class of models, keywords that make it tiny.
TINY = {
    "DiT": {"hidden_size": 16, "depth": 2, "num_heads": 2, "input_size": 4},
    "MDTv2": {"hidden_size": 16, "depth": 4, "num_heads": 2, "decode_layer": 2, "input_size": 4},
    "DiC": {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
    "DiCo": {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
    "MaskGIT": {"hidden_size": 16, "depth": 1, "num_heads": 2, "input_size": 4},
}
named = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


def tiny_codec():
    """A VAE as Stable Diffusion's but for its width."""
    return KLAutoencoder(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4] * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=0.18215,
    )


def tiny_pipeline(protocol, **changes):
    """A pipeline of the protocol's kind of model with random weights, and its settings."""
    keywords = {**TINY[preset(protocol.model)[0].__name__], "num_classes": 10}
    if protocol.prediction == "tokens":
        codec = VQAutoencoder(
            channels=3,
            widths=(4, 4, 4),
            layers=1,
            latent_channels=4,
            codebook_size=16,
            codebook_dim=4,
            attention=False,
            norm_groups=2,
        )
        model = create_model(protocol.model, **keywords, codebook_size=16)
    else:
        codec = tiny_codec()
        model = create_model(protocol.model, **keywords, in_channels=4, learn_sigma=True)
    settings = {
        "prediction": protocol.prediction,
        "size": 32,
        "guided_channels": protocol.guided_channels,
        "guidance_schedule": protocol.guidance_schedule,
        "guidance_power": protocol.guidance_power,
        **changes,
    }
    scheduler = create_scheduler(None, settings["prediction"])
    return ClassConditionalPipeline(model.eval(), scheduler, codec.eval(), **settings)


def at_size_32(protocol, **changes):
    """A protocol for small pictures."""
    return dataclasses.replace(protocol, settings=protocol.settings.but(size=32, **changes))


def drawn(model, protocol, num=4, labels=None, seed=None, **changes):
    """Samples that follow a protocol but for `changes` of the settings."""
    settings = protocol.settings.but(**changes)
    seed = protocol.seed if seed is None else seed
    model = AtHand("tiny", model, "tiny")
    return DrawnImages(model, num, seed, labels or protocol.labels, settings=settings)


def reported(protocol, **changes):
    """What `metrics.json` would say of an evaluation by a protocol, but for some entries."""
    sha256 = PUBLISHED[protocol.reference].sha256
    report = {
        "samples": {"count": protocol.count},
        "extractor": {"name": protocol.extractor, "official": True},
        "reference": {
            "name": protocol.reference,
            "sha256": sha256,
            "published": protocol.reference,
            "verified": True,
        },
        "warnings": [],
    }
    for name, values in changes.items():
        report[name] = {**report[name], **values}
    return report


@named
def test_names_that_exist(protocol):
    assert protocol.model in MODELS
    assert protocol.extractor in EXTRACTORS
    assert protocol.reference in PUBLISHED
    assert protocol.published["fid"] > 0 and protocol.count == 50_000
    assert set(protocol.published) <= {"fid", "sfid", "is", "precision", "recall"}


@named
def test_its_settings_resolve_and_stand(protocol):
    pipeline = tiny_pipeline(protocol)
    resolved, wanted = pipeline.resolve(protocol.settings), protocol.settings
    scheduler = resolved.sampler.scheduler
    assert type(scheduler).__name__ == resolved.settings.scheduler == wanted.scheduler
    assert (resolved.steps, resolved.guidance) == (wanted.steps, wanted.guidance)
    assert resolved.size == wanted.size and wanted.size[0] == wanted.size[1]
    assert resolved.settings.guidance_interval == wanted.guidance_interval
    for name, value in wanted.scheduler_options.items():
        assert scheduler.config[name] == value


@pytest.mark.parametrize(
    "name",
    ["dit-xl2-256-cfg1.5", "sit-xl2-256-cfg1.5-ode", "repa-sit-xl2-256-cfg1.8",
     "dico-xl-256-cfg1.4", "dic-h-256-cfg1.5", "mdtv2-xl2-256-cfg3.8",
     "maskgit-l-384-halton-cfg1.5"],
)  # fmt: skip
def test_a_model_draws_with_them(name):
    protocol = PROTOCOLS[name]
    settings = protocol.settings.but(size=32, steps=2)
    pictures = tiny_pipeline(protocol).draw([1, 2], [0, 1], settings)
    assert [picture.size for picture in pictures] == [(32, 32)] * 2


@named
def test_its_description_says_everything(protocol):
    text = describe(protocol)
    for name in ("name", "model", "autoencoder", "pixels", "labels", "reference"):
        assert getattr(protocol, name) in text
    settings = protocol.settings
    assert settings.scheduler in text and f"{settings.size} pixels" in text
    assert f"{settings.steps} steps" in text and f"fid {protocol.published['fid']:g}" in text
    assert all(reason in text for reason in protocol.unverified + protocol.unmet)
    assert ("unverified" in text) == (not protocol.verified) == bool(protocol.unverified)
    guided = re.search(r"guidance: (\S+)", text)[1]
    assert guided == ("none" if settings.guidance == 1 else f"{settings.guidance:g}")


def test_an_unknown_name_and_flags_that_contradict():
    with pytest.raises(UsageError, match="Did you mean dit-xl2-256"):
        find_protocol("dit-xl2-256-cfg1.6")
    dit = find_protocol("dit-xl2-256-cfg1.5")
    check_alone(dit, {"--steps": None})
    with pytest.raises(UsageError, match="fixes --steps, --guidance;"):
        check_alone(dit, {"--steps": 50, "--guidance": 1.5, "--scheduler": None})


# A tiny model is never the published one: this is what departs in the tests below in any case.
TINY_MODEL = "model with hidden_size 16, depth 2, num_heads 2"


def test_what_follows_a_protocol_is_called_by_its_name():
    protocol = at_size_32(PROTOCOLS["dit-xl2-256-cfg1.5"])
    samples = drawn(tiny_pipeline(protocol), protocol)
    found = departures(protocol, samples, reported(protocol))
    assert found == [TINY_MODEL]
    samples.pipeline.model.register_to_config(**preset(protocol.model)[1])
    assert departures(protocol, samples, reported(protocol)) == []
    assert label(protocol, []) == "dit-xl2-256-cfg1.5"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 50}, "steps 50"),
        ({"guidance": 4.0}, "guidance 4.0"),
        ({"guidance_interval": (0.0, 0.5)}, "guidance_interval (0.0, 0.5)"),
        ({"size": 64}, "size 64x64"),
        ({"scheduler": "RespacedDDIMScheduler", "scheduler_options": None},
         "scheduler RespacedDDIMScheduler"),
        ({"scheduler_options": {"timestep_spacing": "leading"}}, "timestep_spacing leading"),
        ({"labels": "balanced"}, "balanced labels"),
        ({"seed": 7}, "seed 7"),
    ],
)  # fmt: skip
def test_departures_of_the_drawing(changes, said):
    protocol = at_size_32(PROTOCOLS["dit-xl2-256-cfg1.5"])
    samples = drawn(tiny_pipeline(protocol), protocol, **changes)
    found = departures(protocol, samples, reported(protocol))
    assert sorted(found) == sorted([said, TINY_MODEL])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"guided_channels": None}, "guided_channels None"),
        ({"guidance_power": 2.0}, "guidance_power 2.0"),
        ({"guidance_schedule": "linear"}, "guidance_schedule linear"),
        ({"ddpm_prediction": "v"}, "ddpm_prediction v"),
    ],
)
def test_departures_of_the_pipeline(changes, said):
    protocol = at_size_32(PROTOCOLS["mdtv2-xl2-256-cfg3.8"])
    samples = drawn(tiny_pipeline(protocol, **changes), protocol)
    assert said in departures(protocol, samples, reported(protocol))
    assert "pixels floor(127.5 x + 128)" in departures(protocol, samples, reported(protocol))


def test_another_autoencoder_and_other_betas():
    protocol = at_size_32(PROTOCOLS["dit-xl2-256-cfg1.5"])
    pipeline = tiny_pipeline(protocol)
    pipeline.autoencoder.register_to_config(scaling_factor=0.13025)
    pipeline.scheduler.register_to_config(beta_schedule="scaled_linear")
    pipeline.model.to(torch.bfloat16)
    found = departures(protocol, drawn(pipeline, protocol), reported(protocol))
    assert set(found) == {
        TINY_MODEL,
        "scaling_factor 0.13025",
        "beta_schedule scaled_linear",
        "model in bfloat16",
    }
    pipeline.register_modules(autoencoder=PixelAutoencoder(1, 2))
    found = departures(protocol, drawn(pipeline, protocol), reported(protocol))
    assert "autoencoder PixelAutoencoder" in found


def test_another_kind_of_model():
    protocol = at_size_32(PROTOCOLS["dico-xl-256-cfg1.4"])
    other = at_size_32(PROTOCOLS["dit-xl2-256-cfg1.5"])
    samples = drawn(tiny_pipeline(other), protocol)
    assert "model DiT" in departures(protocol, samples, reported(protocol))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": {"count": 1000}}, "1,000 samples"),
        ({"extractor": {"name": "lite0-64"}}, "extractor lite0-64"),
        ({"extractor": {"official": False}}, "other weights of the extractor"),
        (
            {"reference": {"name": "mine.npz", "sha256": "ab", "published": None}},
            "reference mine.npz",
        ),
        ({"reference": {"sha256": "ab"}}, "another file of the reference imagenet256"),
        ({"reference": {"name": "/there/batch.npz", "published": None, "verified": None}}, None),
    ],
)
def test_departures_of_the_measurement(changes, said):
    protocol = at_size_32(PROTOCOLS["dit-xl2-256-cfg1.5"])
    samples = drawn(tiny_pipeline(protocol), protocol)
    found = departures(protocol, samples, reported(protocol, **changes))
    assert found == [TINY_MODEL, *([] if said is None else [said])]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"sha256": "ab", "verified": False}, [UNKNOWN_HASH]),
        ({"sha256": "ab", "published": None, "verified": None},
         ["another file of the reference imagenet512"]),
        ({"name": "photos", "sha256": "ab", "published": None, "verified": None},
         ["reference photos"]),
        ({"sha256": "ab", "published": "imagenet256"},
         ["another file of the reference imagenet512"]),
    ],
)  # fmt: skip
def test_the_name_of_a_reference_proves_nothing(reference, said):
    protocol = at_size_32(PROTOCOLS["dit-xl2-512-cfg1.5"])
    assert PUBLISHED[protocol.reference].sha256 is None
    samples = drawn(tiny_pipeline(protocol), protocol)
    found = departures(protocol, samples, reported(protocol, reference=reference))
    assert [text for text in found if "reference" in text] == said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beta_start", 0.001),
        ("beta_end", 0.012),
        ("num_train_timesteps", 500),
        ("trained_betas", [0.01] * 1000),
    ],
)
def test_other_noise(name, value):
    protocol = at_size_32(PROTOCOLS["dit-xl2-256-cfg1.5"])
    pipeline = tiny_pipeline(protocol)
    pipeline.scheduler.register_to_config(**{name: value})
    found = departures(protocol, drawn(pipeline, protocol), reported(protocol))
    assert f"{name} {value}" in found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of eight pictures of noise."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for number in range(8):
        pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return folder


def test_samples_from_a_file(pictures):
    protocol = PROTOCOLS["dit-xl2-256-cfg1.5"]
    assert departures(protocol, open_images(str(pictures)), reported(protocol)) == [UNKNOWN_DRAWING]


def test_a_report_says_what_departs_and_what_is_not_verified(pictures):
    protocol = PROTOCOLS["maskgit-l-384-halton-cfg1.5"]
    report = reported(protocol, samples={"count": 1000})
    add_protocol(protocol, open_images(str(pictures)), report)
    found = "; ".join([UNKNOWN_DRAWING, "1,000 samples", *protocol.unmet])
    assert report["protocol"] == f"maskgit-l-384-halton-cfg1.5 (departs: {found})"
    assert found in report["warnings"][0]
    assert report["warnings"][1:] == [
        f"not verified of {protocol.name}: {text}" for text in protocol.unverified
    ]


def test_an_evaluation_by_a_protocol(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    protocol = dataclasses.replace(
        at_size_32(PROTOCOLS["dico-xl-256-cfg1.4"], steps=2), count=6, extractor="lite0-64"
    )
    model = AtHand("tiny", tiny_pipeline(protocol), "tiny")
    measured, report = evaluate_protocol(protocol, model, reference=str(pictures))
    assert report["samples"]["count"] == measured.files.count == 6
    assert report["samples"]["seed"] == 1234 and report["samples"]["label_rule"] == "random"
    assert report["samples"]["drawing"]["steps"] == 2
    said = report["protocol_details"]["departures"]
    assert said[0].startswith("model with hidden_size 8, depth")
    assert said[1:] == [f"reference {pictures}"]
    assert report["protocol"] == label(protocol, said)
    _, fewer = evaluate_protocol(protocol, model, 4, reference=str(pictures))
    assert "4 samples" in fewer["protocol"]
