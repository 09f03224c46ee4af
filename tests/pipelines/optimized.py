"""Tiny models of every kind, and comparisons of what optimized pipelines draw."""

import numpy as np
import torch
from torch import nn

from gensynth import create_model
from gensynth.pipelines.acceleration.step_tables import Modulations

TRANSFORMER = {"hidden_size": 16, "depth": 2, "num_heads": 2, "input_size": 16}
TINY = {
    "DiCo": ("DiCo-nano", {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]}),
    "DiC": ("DiC-nano", {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]}),
    "DiT": ("DiT-nano/2", TRANSFORMER),
    "SiT": ("SiT-nano/2", TRANSFORMER),
    "MDTv2": ("MDTv2-nano/2", TRANSFORMER | {"depth": 3, "decode_layer": 1}),
}


def tiny_model(name: str, **keywords) -> nn.Module:
    """A model in which no weight is zero."""
    preset, own = TINY[name]
    own = {"num_classes": 10, "in_channels": 4, **own, **keywords}
    own.setdefault("learn_sigma", name == "SiT")  # which throws the variances away
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(preset, **own)
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return model.eval()


TEXT = {"width": 6, "pooled_width": 5, "length": 4, "cross": True, "encoder": None}
TOKENS = {"hidden_size": 16, "depth": 2, "num_heads": 2, "codebook_size": 30, "input_size": 16}


def text_model(name: str, **changes) -> nn.Module:
    """A tiny model of texts."""
    text = {**TEXT, **changes}
    if name != "MaskGIT":
        return tiny_model(name, text=text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model("MaskGIT-nano", text=text, **TOKENS)
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return model.eval()


def drawn(pipeline, labels=(3, 5), seeds=(1, 2), **settings) -> np.ndarray:
    pictures = pipeline(labels, seeds, **settings)
    return np.stack([np.asarray(picture, dtype=np.int16) for picture in pictures])


def assert_same(plain, optimized, **settings) -> None:
    expected = drawn(plain, **settings)
    assert expected.std() > 1  # something is drawn
    assert np.abs(drawn(optimized, **settings) - expected).max() <= 1


def count_products(pipeline) -> list[int]:
    """One number that grows with every product of a modulation."""
    count = [0]

    def counted(*_: object) -> None:
        count[0] += 1

    for layer in Modulations(pipeline.model).layers:
        layer.register_forward_hook(counted)
    return count
