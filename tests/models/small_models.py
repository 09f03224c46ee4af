"""Small models of every kind, with every token mixer, and what to call them with."""

import torch
from torch import nn

from gensynth.models import MODELS, create_model
from gensynth.models.layers.mixers import MIXERS

# The smallest version of each class: keywords that keep a test in milliseconds.
TRANSFORMER = {"input_size": 8, "patch_size": 2, "hidden_size": 32, "num_heads": 2}
SMALL = {
    "DiC": {"hidden_size": 8, "depth": [2, 1, 1, 1, 2]},
    "DiCo": {"hidden_size": 8, "depth": [1, 1, 1, 1, 1]},
    "DiT": {**TRANSFORMER, "depth": 2},
    "MDTv2": {**TRANSFORMER, "depth": 4, "decode_layer": 2, "mask_ratio": None},
}
SMALL_TOKENS = {
    "MaskGIT": {"input_size": 8, "codebook_size": 30, "hidden_size": 32, "num_heads": 2, "depth": 2}
}
VARIANTS = {
    **{name: (name, {}) for name in SMALL},
    **{
        f"{name}-{mixer}": (name, {"mixer": mixer})
        for name in ("DiT", "MDTv2")
        for mixer in MIXERS
        if mixer != "softmax"
    },
    "DiT-local-pooled": ("DiT", {"mixer": "local", "window": 2, "down_factor": 2}),
    "DiT-rope": ("DiT", {"positions": "rope"}),
    "DiT-linear-rope": ("DiT", {"positions": "rope", "mixer": "linear"}),
    "DiT-random": ("DiT", {"position_range": 16}),
    "MDTv2-random-rope": ("MDTv2", {"position_range": 16, "positions": "rope"}),
    "DiT-sized": ("DiT", {"size_conditioning": True}),
    "DiC-zero-gate": ("DiC", {"zero_gate": True}),
}
TOKEN_VARIANTS = {
    "MaskGIT": ("MaskGIT", {}),
    "MaskGIT-merged": ("MaskGIT", {"proj": 2, "num_registers": 3}),
    "MaskGIT-no-registers": ("MaskGIT", {"num_registers": 0}),
}


def fresh(variant: str, **keywords):
    name, own = {**VARIANTS, **TOKEN_VARIANTS}[variant]
    model_name = next(key for key, entry in MODELS.items() if entry[0].__name__ == name)
    small = {**SMALL, **SMALL_TOKENS}[name]
    return create_model(model_name, **{**small, "num_classes": 5, **own, **keywords}).eval()


def small(variant: str, **keywords):
    """A small model, every weight drawn at random, also those that start at zero."""
    model = fresh(variant, **keywords)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def inputs(batch: int = 3, height: int = 8, width: int = 8):
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(batch, 4, height, width, generator=generator)
    return sample, torch.tensor([0.0, 0.5, 1.0][:batch]), torch.tensor([0, 4, 5][:batch])


def token_inputs(batch: int = 3, height: int = 8, width: int = 8):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(31, (batch, height, width), generator=generator)
    return tokens, torch.tensor([0, 4, 2][:batch]), torch.tensor([False, False, True][:batch])


def inputs_of(variant: str, *size: int):
    return token_inputs(*size) if variant in TOKEN_VARIANTS else inputs(*size)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    }


def output(model: nn.Module, variant: str) -> torch.Tensor:
    with torch.no_grad():
        return model(*inputs_of(variant))
