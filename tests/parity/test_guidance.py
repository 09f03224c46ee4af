"""Guidance is that of the published models; they return the unconditional half too, we do not."""

from collections.abc import Callable

import pytest
import torch
from reference import Reference, load_reference

from gensynth.convert import load_official
from gensynth.samplers.guidance import classifier_free, power_cosine

CHANNELS = 3  # the published code guides three of the four latent channels


def official(system: str, reference: Reference, *settings: str) -> torch.nn.Module:
    """The model of a reference, whose configuration also holds `settings` of the guidance."""
    config = {key: value for key, value in reference.config.items() if key not in settings}
    return load_official(system, reference.state, **config).eval()


def guided_model(model: torch.nn.Module, reference: Reference, scale) -> Callable:
    """The guided model for a sample, times and labels."""

    def predict(sample, time, conditions):
        return model(sample, time, **conditions)

    null = {"class_labels": torch.tensor([reference.config["num_classes"]])}
    guided = classifier_free(predict, scale, null, CHANNELS)
    return lambda sample, time, labels: guided(sample, time, {"class_labels": labels})


def conditional(reference: Reference, name: str) -> torch.Tensor:
    return reference.output[name].chunk(2)[0]


@pytest.mark.parametrize("system", ["dit", "dic", "dico"])
def test_three_channels(system):
    reference = load_reference(f"{system}/forward_with_cfg.safetensors")
    model = official(system, reference, "cfg_scale")
    guided = guided_model(model, reference, reference.config["cfg_scale"])
    x = reference.input
    with torch.inference_mode():
        output = guided(*(x[key].chunk(2)[0] for key in ("x", "t", "y")))
    torch.testing.assert_close(
        output, conditional(reference, "out"), atol=reference.atol, rtol=reference.rtol
    )


def test_three_channels_of_a_flow():
    reference = load_reference("sit/forward.safetensors")
    model = official("sit", reference, "cfg_scale")
    guided = guided_model(model, reference, reference.config["cfg_scale"])
    x = reference.input
    with torch.inference_mode():
        output = guided(*(x[key].chunk(2)[0] for key in ("x", "cfg_t", "cfg_y")))
    torch.testing.assert_close(
        output, conditional(reference, "cfg"), atol=reference.atol, rtol=reference.rtol
    )


def noise_level(timestep: torch.Tensor) -> torch.Tensor:
    return timestep / 1000


def test_power_cosine_scale():
    reference = load_reference("mdt/forward_with_cfg.safetensors")
    case = reference.config["cfg_cases"][0]
    assert case["diffusion_steps"] == 1000
    scale = power_cosine(case["cfg_scale"], case["scale_pow"], noise_level)
    reference.check("real_cfg_scale0", scale(reference.input["t"]))


@pytest.mark.parametrize("case", [0, 1, 2])
def test_power_cosine(case):
    reference = load_reference("mdt/forward_with_cfg.safetensors")
    model = official("mdt", reference, "cfg_cases")
    settings = reference.config["cfg_cases"][case]
    scale = power_cosine(settings["cfg_scale"], settings["scale_pow"], noise_level)
    guided = guided_model(model, reference, scale)
    x = reference.input
    with torch.inference_mode():
        output = guided(*(x[key].chunk(2)[0] for key in ("x", "t", "y")))
    torch.testing.assert_close(
        output, conditional(reference, f"out{case}"), atol=reference.atol, rtol=reference.rtol
    )


def test_no_scale_is_the_plain_model():
    reference = load_reference("mdt/forward_with_cfg.safetensors")
    model = official("mdt", reference, "cfg_cases")
    x = reference.input
    with torch.inference_mode():
        guided = guided_model(model, reference, 1)
        reference.check("out_no_scale", guided(x["x"], x["t"], x["y"]))
