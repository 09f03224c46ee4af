"""The catalogue counts what the papers print."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gensynth.cli import main
from gensynth.models import MODELS, create_model, example_inputs
from gensynth.models.catalogue import FAMILIES, PUBLISHED, entry
from gensynth.models.counted import COUNTED
from gensynth.models.counting import count, multiply_adds
from gensynth.models.layers.mixers import MIXERS
from gensynth.models.presets import PRESETS


def test_every_model_has_a_family_and_every_published_one_exists():
    assert {name.split("-")[0] for name in MODELS} == set(FAMILIES)
    assert set(PUBLISHED) <= set(MODELS)


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_recorded_is_what_is_counted(name):
    assert COUNTED[name] == count(name)


def test_nothing_is_recorded_of_other_models():
    assert set(COUNTED) == set(PRESETS)


def on_latents(name):
    return MODELS[name][0].works_on == "latents" and MODELS[name][0].draws


@pytest.mark.parametrize("name", [k for k, v in PUBLISHED.items() if v.gflops and on_latents(k)])
def test_counted_flops_are_the_published_ones(name):
    assert entry(name).gflops_256 == pytest.approx(PUBLISHED[name].gflops, rel=0.02)


def test_published_flops_at_512():
    """DiT-XL/2: table 6 of its paper. DiCo-XL: section 4 of its paper."""
    listed = entry("DiT-XL/2")
    assert listed.gflops_512 == pytest.approx(524.6, rel=0.02)
    assert listed.gflops_256 == pytest.approx(listed.published_gflops_256, rel=0.02)
    assert entry("DiCo-XL").gflops_512 == pytest.approx(348, rel=0.02)


# The README of Halton-MaskGIT, by tokens of a side.
MASKGIT = [
    *(("MaskGIT-T", 16, 4), ("MaskGIT-S", 16, 12), ("MaskGIT-B", 16, 25)),
    *(("MaskGIT-S", 24, 28), ("MaskGIT-B", 24, 56), ("MaskGIT-L", 24, 187)),
]


@pytest.mark.parametrize(("name", "side", "printed"), MASKGIT)
def test_counted_flops_of_token_models_are_the_published_ones(name, side, printed):
    """Printed are matrices of weights only, without attention's products, and whole numbers."""
    with torch.device("meta"):
        model = create_model(name, input_size=side).eval()
    with FlopCounterMode(display=False) as counter:
        model(*example_inputs(model, side, side))
    counts = counter.get_flop_counts()["Global"]
    attention = sum(n for op, n in counts.items() if "bmm" in str(op) or "attention" in str(op))
    weights = counter.get_total_flops() - attention
    assert attention > 0 and weights // 2e9 == printed
    assert multiply_adds(model, 16 * side) == counter.get_total_flops() // 2
    if side == 16:
        assert PUBLISHED[name].gflops == printed


def test_tokens_and_pixels_are_those_of_the_size():
    listed = entry("MaskGIT-T")
    assert (listed.tokens_256, listed.mixer, listed.license) == (256, "softmax", "MIT")
    assert 4 < listed.gflops_512 / listed.gflops_256 < 5  # four times the tokens, and attention
    listed = entry("VQ-f16")
    assert (listed.tokens_256, listed.mixer, listed.published_fid) == (65536, "convolution", "")
    assert listed.parameters == 71_883_403
    assert 4 <= listed.gflops_512 / listed.gflops_256 < 4.1


def test_command(capsys):
    with pytest.raises(SystemExit) as done:
        main(["models", "nano", "--json"])
    assert not done.value.code
    listed = json.loads(capsys.readouterr().out)
    usable, architectures = listed[0], listed[1:]  # those that draw come first
    assert (usable["name"], usable["usable"]) == ("dico-nano-fashion", True)
    assert usable["classes"][7] == "Sneaker" and usable["size"] == 32
    assert {one["name"] for one in architectures} == {name for name in MODELS if "nano" in name}
    assert not any(one["usable"] for one in architectures)
    assert all(one["parameters"] > 5e5 and one["gflops_256"] > 0 for one in architectures)
    with pytest.raises(SystemExit):
        main(["models", "DiCo-nano"])
    printed = capsys.readouterr().out
    assert "DiCo-nano" in printed and "convolution" in printed and "…" not in printed
    with pytest.raises(SystemExit):
        main(["models", "MaskGIT-L"])
    printed = capsys.readouterr().out
    assert "(384 pixels, guidance 1.5)" in printed and "…" not in printed


def test_a_name_that_fits_nothing_is_refused(capsys):
    with pytest.raises(SystemExit) as done:
        main(["models", "nope"])
    assert done.value.code == 2
    assert (
        "no model's name contains 'nope'. Known: emoji, dico-nano-fashion, maskgit-fashion, DiT-S/2"
        in capsys.readouterr().err
    )


def test_nano_models_are_about_equal():
    """Those on latents are compared at equal size, with the classes of the bundled data."""
    counts = {
        name: sum(p.numel() for p in create_model(name, num_classes=10).parameters())
        for name in MODELS
        if "nano" in name and on_latents(name)
    }
    assert max(counts.values()) < 1.06 * min(counts.values()), counts


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_is_counted(mixer):
    with torch.device("meta"):
        model = create_model("DiT-nano/2", mixer=mixer)
    assert multiply_adds(model, 256) > 3e8


def test_a_mixer_changes_what_is_counted(capsys):
    with pytest.raises(SystemExit):
        main(["models", "DiT-nano", "--mixer", "linear", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert [one["mixer"] for one in listed] == ["linear"] and not listed[0]["published_fid"]
    assert listed[0]["gflops_512"] < entry("DiT-nano/2").gflops_512
    for arguments, message in (
        (["DiCo-nano", "--mixer", "linear"], "DiCo-nano has no token mixer"),
        (["MaskGIT-nano", "--mixer", "linear"], "MaskGIT-nano has no token mixer"),
        (["DiT-nano", "--mixer", "liner"], "unknown mixer 'liner'; known: softmax, linear"),
    ):
        with pytest.raises(SystemExit):
            main(["models", *arguments])
        assert message in capsys.readouterr().err


def test_weights_are_addresses():
    assert all(k.weights.startswith("https://") for k in PUBLISHED.values() if k.weights)
