"""Parameters and FLOPs of a model, counted. What comes out for the named ones is in `counted`."""

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch.utils.flop_counter import FlopCounterMode

from gensynth.errors import UsageError
from gensynth.models import constructor_keywords, create_model, example_inputs, example_text
from gensynth.models.layers.mixers import MIXERS

# What a model works on -> pixels of a side that one of its positions stands for: those of the 8x
# autoencoder and of the 16x tokenizer that all published models use.
PIXELS = {"latents": 8, "tokens": 16, "pixels": 1}


def count(name: str, mixer: str | None = None) -> tuple[int, int, int, int, str]:
    """A line of `COUNTED`, of a named model; with another token mixer if one is given.

    Raises:
        UsageError: the model has no token mixer, or there is none of that name.
    """
    if mixer is not None and "mixer" not in constructor_keywords(name):
        raise UsageError(f"{name} has no token mixer; those with one: DiT, SiT, MDTv2.")
    if mixer is not None and mixer not in MIXERS:
        raise UsageError(f"unknown mixer {mixer!r}; known: {', '.join(MIXERS)}.")
    # Shapes alone: counting needs no memory, and XL models are counted in a moment.
    with torch.device("meta"):
        model = create_model(name, **({} if mixer is None else {"mixer": mixer})).eval()
    side = 256 // PIXELS[model.works_on] // model.config.get("patch_size", 1)
    return (
        sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds(model, 256),
        multiply_adds(model, 512),
        side * side,
        model.config.get("mixer", "softmax" if model.works_on == "tokens" else "convolution"),
    )


def multiply_adds(model: ModelMixin, pixels: int) -> int:
    """Multiply-adds of one forward pass over what a square image becomes."""
    side = pixels // PIXELS[model.works_on]
    inputs, text = example_inputs(model, side, side), example_text(model)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(*inputs, **text)
    return int(counter.get_total_flops()) // 2  # a multiply-add counts as two operations
