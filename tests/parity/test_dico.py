"""DiCo is the published function: shallowdream204/DiCo."""

import hashlib
import json

import pytest
import torch
from reference import load_reference, reference_path

from gensynth.convert import dico as names
from gensynth.convert import load_official
from gensynth.guidance import classifier_free
from gensynth.models.dico import PRESETS, DiCo


def test_forward():
    reference = load_reference("dico/forward.safetensors")
    model = load_official("dico", reference.state, **reference.config).eval()
    x = reference.input
    with torch.inference_mode():
        reference.check("out", model(x["x"], x["t"], x["y"]))
        reference.check("out_int", model(x["x"], x["t_int"], x["y_int"]))
        model.to(memory_format=torch.channels_last)
        reference.check("out", model(x["x"], x["t"], x["y"]))


def test_guidance_on_three_channels():
    """The conditional half; the reference also returns the unconditional one."""
    reference = load_reference("dico/forward_with_cfg.safetensors")
    config = dict(reference.config)
    scale = config.pop("cfg_scale")
    model = load_official("dico", reference.state, **config).eval()
    guided = classifier_free(model, scale, config["num_classes"], channels=3)
    x = reference.input
    half = len(x["x"]) // 2
    with torch.inference_mode():
        output = guided(x["x"][:half], x["t"][:half], x["y"][:half])
    torch.testing.assert_close(
        output, reference.output["out"][:half], atol=reference.atol, rtol=reference.rtol
    )


@pytest.mark.parametrize("size", ["S", "B", "L", "XL", "H"])
def test_parameter_names_shapes_and_counts(size):
    """Every official parameter has its place in ours, and there are no others."""
    published = json.loads(reference_path("dico/sizes.json").read_text())["sizes"][f"DiCo-{size}"]
    with torch.device("meta"):
        model = DiCo(**PRESETS[f"dico-{size.lower()}"])
    own = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert sum(parameter.numel() for parameter in model.parameters()) == published["params_total"]
    assert len(own) == published["tensors"]
    official = {official_name(name): "x".join(map(str, shape)) for name, shape in own.items()}
    assert {names.rename(name) for name in official} == set(own)
    lines = "\n".join(sorted(f"{name}:{shape}" for name, shape in official.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == published["sha256"]


def official_name(name: str) -> str:
    """The inverse of the converter's `rename`."""
    for official, own in names.PREFIXES.items():
        if name.startswith(own):
            rest = name.removeprefix(own)
            for part, own_part in names.PARTS.items():
                rest = rest.replace(own_part, part)
            return official + rest
    raise AssertionError(f"no official name for {name}")


def test_wrong_state_is_refused_with_names():
    reference = load_reference("dico/forward.safetensors")
    state = dict(reference.state)
    state["x_embedder.proj.extra"] = state.pop("x_embedder.proj.bias")
    state["x_embedder.proj.weight"] = torch.zeros(1)
    with pytest.raises(ValueError) as error:
        load_official("dico", state, **reference.config)
    assert "missing stem.bias" in str(error.value)
    assert "unexpected stem.extra" in str(error.value)
    assert "stem.weight is (1,), not (16, 4, 3, 3)" in str(error.value)


def test_unknown_system_is_refused():
    with pytest.raises(ValueError, match="unknown system 'dicco'"):
        load_official("dicco", {})
