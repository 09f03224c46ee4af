"""The catalogue counts what the papers print."""

import json

import pytest
import torch

from gensynth.catalogue import FAMILIES, PUBLISHED, entry, gflops
from gensynth.cli import main
from gensynth.models import MODELS, create_model
from gensynth.models.layers.mixers import MIXERS


def test_every_model_has_a_family_and_every_published_one_exists():
    assert {name.split("-")[0] for name in MODELS} == set(FAMILIES)
    assert set(PUBLISHED) <= set(MODELS)


@pytest.mark.parametrize("name", [name for name, known in PUBLISHED.items() if known.gflops])
def test_counted_flops_are_the_published_ones(name):
    counted = entry(name)
    assert counted.gflops_256 == pytest.approx(counted.published_gflops_256, rel=0.02)


def test_published_flops_at_512():
    """DiT-XL/2: table 6 of its paper. DiCo-XL: section 4 of its paper."""
    assert entry("DiT-XL/2").gflops_512 == pytest.approx(524.6, rel=0.02)
    assert entry("DiCo-XL").gflops_512 == pytest.approx(348, rel=0.02)


def test_command(capsys):
    with pytest.raises(SystemExit) as done:
        main(["models", "nano", "--json"])
    assert not done.value.code
    listed = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in listed} == {name for name in MODELS if "nano" in name}
    assert all(one["parameters"] > 2e6 and one["gflops_256"] > 0 for one in listed)
    with pytest.raises(SystemExit):
        main(["models", "DiCo-nano"])
    printed = capsys.readouterr().out
    assert "DiCo-nano" in printed and "convolution" in printed and "…" not in printed


def test_a_name_that_fits_nothing_is_refused(capsys):
    with pytest.raises(SystemExit) as done:
        main(["models", "nope"])
    assert done.value.code == 2
    assert "no model's name contains 'nope'. Known: DiT-S/2" in capsys.readouterr().err


def test_nano_models_are_about_equal():
    """They are compared at equal parameter count, with the classes of the bundled data."""
    counts = {
        name: sum(p.numel() for p in create_model(name, num_classes=10).parameters())
        for name in MODELS
        if "nano" in name
    }
    assert max(counts.values()) < 1.06 * min(counts.values()), counts


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_is_counted(mixer):
    with torch.device("meta"):
        model = create_model("DiT-nano/2", mixer=mixer)
    assert gflops(model, 32) > 0.3


def test_a_mixer_changes_what_is_counted(capsys):
    with pytest.raises(SystemExit):
        main(["models", "DiT-nano", "--mixer", "linear", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert [one["mixer"] for one in listed] == ["linear"] and not listed[0]["published_fid"]
    assert listed[0]["gflops_512"] < entry("DiT-nano/2").gflops_512
    for arguments, message in (
        (["DiCo-nano", "--mixer", "linear"], "DiCo-nano has no token mixer"),
        (["DiT-nano", "--mixer", "liner"], "unknown mixer 'liner'; known: softmax, linear"),
    ):
        with pytest.raises(SystemExit):
            main(["models", *arguments])
        assert message in capsys.readouterr().err


def test_weights_are_addresses():
    assert all(k.weights.startswith("https://") for k in PUBLISHED.values() if k.weights)
