"""The backbones are the published functions, with the published parameters."""

import hashlib
import json

import pytest
import torch
from reference import load_reference, reference_path

from gensynth.convert import SYSTEMS, load_official
from gensynth.models import MODELS, preset
from gensynth.models.mdt import draw_kept

FORWARD = ["dico", "dic", "dit", "sit", "mdt"]


def official(system: str, reference):
    """The model of a reference file, in evaluation mode."""
    return load_official(system, reference.state, **reference.config).eval()


@pytest.mark.parametrize("system", FORWARD)
def test_forward(system):
    reference = load_reference(f"{system}/forward.safetensors")
    model = official(system, reference)
    x = reference.input
    with torch.inference_mode():
        reference.check("out", model(x["x"], x["t"], x["y"]))
        if "out_int" in reference.output:
            reference.check("out_int", model(x["x"], x["t_int"], x["y_int"]))
        model.to(memory_format=torch.channels_last)
        reference.check("out", model(x["x"], x["t"], x["y"]))


@pytest.mark.parametrize("system", FORWARD)
def test_every_trained_parameter_has_a_gradient(system):
    reference = load_reference(f"{system}/forward.safetensors")
    model = official(system, reference)
    x = reference.input
    model(x["x"], x["t"], x["y"]).square().sum().backward()
    dead = SYSTEMS[system].NAMES.ours
    unused = {dead(name) for name in reference.dead_parameters}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in unused:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


def test_mdt_masked_pass():
    """The stored draws give the stored tokens, and these the stored output."""
    reference = load_reference("mdt/forward_masked.safetensors")
    model = official("mdt", reference)
    x = reference.input
    ratio = model.mask_ratio + 0.2 * x["rand_ratio"]
    reference.check("mask_ratio", ratio)
    kept = draw_kept(x["rand_noise"], ratio)
    assert torch.equal(kept, reference.output["ids_keep"])
    output = model(x["x"], x["t"], x["y"], kept=kept)
    reference.check("out", output)
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


def published_sizes():
    """(system, size name, our keywords) of every published size."""
    cases = []
    for name, (model_class, keywords) in MODELS.items():
        if "nano" not in name and model_class.works_on == "latents":
            system = {"MDTv2": "mdt"}.get(name.split("-")[0], name.split("-")[0].lower())
            if system != "pixart":  # whose reference is diffusers' own: test_pixart.py
                cases.append(pytest.param(system, name, keywords, id=name))
    s6 = {**MODELS["MDTv2-S/2"][1], "decode_layer": 6}
    return [*cases, pytest.param("mdt", "MDTv2-S/2 decode_layer=6", s6, id="MDTv2-S/2-6")]


@pytest.mark.parametrize("system, name, keywords", published_sizes())
def test_names_shapes_and_counts(system, name, keywords):
    """Every official parameter has its place in ours, and there are no others."""
    published = json.loads(reference_path(f"{system}/sizes.json").read_text())["sizes"][name]
    with torch.device("meta"):
        model = preset(name.split(" ")[0])[0](**keywords)
    own = dict(model.named_parameters())
    total = sum(parameter.numel() for parameter in own.values())
    trained = sum(parameter.numel() for parameter in own.values() if parameter.requires_grad)
    assert (total, trained) == (published["params_total"], published["params_trainable"])
    names = SYSTEMS[system].NAMES
    lines = {}
    for own_name, parameter in own.items():
        lines[names.official(own_name)] = "x".join(map(str, parameter.shape))
        assert names.ours(names.official(own_name)) == own_name
    assert len(lines) == len(own) == published["tensors"]
    text = "\n".join(sorted(f"{name}:{shape}" for name, shape in lines.items()))
    assert hashlib.sha256(text.encode()).hexdigest() == published["sha256"]


def test_all_published_sizes_are_covered():
    for system in FORWARD:
        published = json.loads(reference_path(f"{system}/sizes.json").read_text())["sizes"]
        assert set(published) <= {case.values[1] for case in published_sizes()}


def test_wrong_state_is_refused_with_names():
    reference = load_reference("dico/forward.safetensors")
    state = dict(reference.state)
    state["x_embedder.proj.extra"] = state.pop("x_embedder.proj.bias")
    state["x_embedder.proj.weight"] = torch.zeros(1)
    with pytest.raises(ValueError) as error:
        load_official("dico", state, **reference.config)
    assert "missing x_embedder.proj.bias" in str(error.value)
    assert "unexpected x_embedder.proj.extra" in str(error.value)
    assert "x_embedder.proj.weight is [1], not [16, 4, 3, 3]" in str(error.value)


def test_unknown_system_is_refused():
    with pytest.raises(ValueError, match="unknown system 'dicco'"):
        load_official("dicco", {})
