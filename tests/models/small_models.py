"""Small models of every kind, with every token mixer, and what to call them with."""

import torch
from torch import nn

from gensynth.models import MODELS, create_model
from gensynth.models.layers.mixers import MIXERS
from gensynth.seeding import StepRandom

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
# Encoded elsewhere; by an encoder of the model's own; without words; without a summary.
TEXT = {"width": 12, "pooled_width": 10, "length": 6, "cross": True, "encoder": None}
OWN_ENCODER = {"vocab_size": 20, "layers": 1, "heads": 2}
OWN_TEXT = {**TEXT, "width": 16, "pooled_width": 16, "encoder": OWN_ENCODER}
WORDS_ONLY = {"text": {**TEXT, "pooled_width": 0}}
TEXT_VARIANTS = {
    **{f"{name}-text": (name, {"text": TEXT}) for name in [*SMALL, *SMALL_TOKENS]},
    **{f"DiT-{mixer}-text": ("DiT", {"text": TEXT, "mixer": mixer}) for mixer in ("local", "rala")},
    **{f"{name}-own-text": (name, {"text": OWN_TEXT}) for name in ("DiCo", "MaskGIT")},
    "DiC-pooled-text": ("DiC", {"text": {**TEXT, "cross": False}}),
    "MaskGIT-merged-text": ("MaskGIT", {"text": TEXT, "proj": 2, "num_registers": 3}),
    "MDTv2-words": ("MDTv2", WORDS_ONLY),
    "DiT-pixart": ("DiT", {**WORDS_ONLY, "shared_modulation": True, "interpolation_scale": 2}),
}


def fresh(variant: str, **keywords):
    name, own = {**VARIANTS, **TOKEN_VARIANTS, **TEXT_VARIANTS}[variant]
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
    """What comes before the texts, which are `text_of`."""
    given = token_inputs(*size) if variant.startswith("MaskGIT") else inputs(*size)
    return given if variant not in TEXT_VARIANTS else given[: 1 if len(given[0].shape) == 3 else 2]


def text_of(variant: str, batch: int = 3) -> dict[str, torch.Tensor]:
    """Texts of one to three words for a model of texts; nothing for another."""
    if variant not in TEXT_VARIANTS:
        return {}
    text = TEXT_VARIANTS[variant][1]["text"]
    generator = torch.Generator().manual_seed(2)
    mask = torch.arange(text["length"])[None] < torch.tensor([3, 5, 4][:batch])[:, None]
    if text["encoder"] is not None:
        ids = torch.randint(4, 20, (batch, text["length"]), generator=generator)
        ids[:, 0] = 1  # BEGIN
        ids = ids.masked_fill(~mask, 0).scatter(1, mask.sum(1, keepdim=True) - 1, 3)  # PAD, END
        return {"input_ids": ids, "attention_mask": mask}
    told = {
        "encoder_hidden_states": torch.randn(
            batch, text["length"], text["width"], generator=generator
        ),
        "encoder_attention_mask": mask,
    }
    if text["pooled_width"]:
        told["pooled_projections"] = torch.randn(batch, text["pooled_width"], generator=generator)
    return told


def layers(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    }


def output(model: nn.Module, variant: str) -> torch.Tensor:
    with torch.no_grad():
        return model(*inputs_of(variant), **text_of(variant))


def step_random(step: int = 0) -> StepRandom:
    return StepRandom(0, step, slice(0, 3), 3)
