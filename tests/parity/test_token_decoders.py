"""Decoding masked tokens follows the published traces: valeoai/Halton-MaskGIT."""

import pytest
import torch
from reference import load_reference

from gensynth.convert import load_official
from gensynth.samplers.masking import decided_counts, halton_order, masked_share
from gensynth.samplers.token_decoders import ConfidenceDecoder, Draws, HaltonDecoder


def test_halton_order():
    reference = load_reference("maskgit/halton_order.safetensors")
    for size in (8, 16, 24, 32):
        assert torch.equal(halton_order(size), reference.output[f"order{size}"])
    assert len({tuple(place) for place in halton_order(64).tolist()}) == 64 * 64


def test_schedules():
    reference = load_reference("maskgit/schedules.safetensors")
    for name, expected in reference.output.items():
        kind, *rest = name.split(".")
        if kind == "halton":
            steps, size = map(int, rest)
            assert decided_counts("arccos", steps, size**2) == expected.tolist(), name
        elif kind == "confidence":
            mode, steps, size = rest[0], int(rest[1]), int(rest[2])
            counts = ConfidenceDecoder(schedule=mode, as_published=True).counts(steps, size**2)
            before = [max(n, i + 1) for i, n in enumerate(expected.tolist())]
            assert counts == before, name


@pytest.mark.parametrize("mode", ["arccos", "cosine", "linear", "root", "square"])
def test_training_masks(mode):
    reference = load_reference("maskgit/schedules.safetensors")
    x = reference.input
    mask = x["rand_mask"] < masked_share(mode, x["rand_r"])[:, None, None]
    assert torch.equal(mask, reference.output[f"train.{mode}.mask"])
    code = torch.where(mask, reference.config["mask_value"], x["code"])
    assert torch.equal(code, reference.output[f"train.{mode}.masked_code"])


def guided(model, labels, scale):
    """Logits as the official samplers guide them; `scale` is a function of progress."""

    def predict(tokens, progress):
        keep = torch.zeros(len(labels), dtype=torch.bool)
        conditional, dropped = model(tokens, labels, keep), model(tokens, labels, ~keep)
        weight = scale(progress)
        return (1 + weight) * conditional - weight * dropped

    return predict


def draws_of(reference, **changes) -> Draws:
    uniform = reference.input["uniforms"].view(5, 3, 36)
    return Draws(**{"uniform": uniform, "order": uniform, "roll": torch.zeros(3), **changes})


HALTON = {
    "argmax": {"temperature": 1e4, "last_temperature": 1e4},
    "sampled": {
        "temperature": 0.8,
        "last_temperature": 1.3,
        "temperature_power": 2,
        "warmup_steps": 2,
    },
    "topk": {"top_k": 4},
    "random_roll": {"roll": True},
    "init_code": {"temperature": 1e4, "last_temperature": 1e4},
}


@pytest.mark.parametrize("run", HALTON)
@torch.inference_mode()
def test_halton_decoding(run):
    reference = load_reference("maskgit/halton_sampler.safetensors")
    model = load_official("maskgit", reference.state, **reference.config["model"]).eval()
    labels, settings = reference.input["labels"], reference.config["runs"][run]
    predict = guided(model, labels, lambda _: settings["w"])
    known = run == "init_code"
    tokens = reference.input["init_code"] if known else torch.full((3, 6, 6), 21)
    draws = draws_of(reference, roll=reference.input["roll"])
    steps = HaltonDecoder(**HALTON[run]).decode(predict, tokens, 21, 5, draws, anew=known)
    for index, step in enumerate(steps):
        assert torch.equal(step.drawn, reference.output[f"{run}.pred"][index]), (run, index)
        assert torch.equal(step.decided, reference.output[f"{run}.mask"][index]), (run, index)
        assert torch.equal(step.tokens, reference.output[f"{run}.code"][index]), (run, index)


CONFIDENCE = {
    "argmax": {"temperature": 1.0, "order_noise": "none", "greedy": True},
    "linear": {"temperature": 1.1},
    "nocfg_cosine": {"temperature": 0.9, "noise_temperature": 2.0, "schedule": "cosine"},
    "random_root": {"order_noise": "random", "schedule": "root"},
}


@pytest.mark.parametrize("run", CONFIDENCE)
@torch.inference_mode()
def test_confidence_decoding_as_published(run):
    reference = load_reference("maskgit/confidence_sampler.safetensors")
    model = load_official("maskgit", reference.state, **reference.config["model"]).eval()
    labels, settings = reference.input["labels"], reference.config["runs"][run]
    predict = guided(model, labels, lambda progress: settings["w"] * progress)
    order = reference.input["rand_conf"]
    if run != "random_root":  # the uniform numbers whose Gumbel noise is stored
        order = torch.exp(-torch.exp(-reference.input["gumbel"]))
    decoder = ConfidenceDecoder(**CONFIDENCE[run], as_published=True)
    tokens = torch.full((3, 6, 6), 21)
    steps = decoder.decode(predict, tokens, 21, 5, draws_of(reference, order=order))
    for index, step in enumerate(steps):
        assert torch.equal(step.drawn, reference.output[f"{run}.pred"][index]), (run, index)
        still = reference.output[f"{run}.still_masked"][index]
        assert torch.equal(step.tokens == 21, still), (run, index)
        assert torch.equal(step.tokens, reference.output[f"{run}.code"][index]), (run, index)
