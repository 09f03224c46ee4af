"""Named models, made."""

import inspect
from importlib import import_module
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from gensynth.errors import did_you_mean
from gensynth.models.presets import PRESETS, proper_name

# Name -> class and the keywords that make that size of it.
MODELS: dict[str, tuple[type[ModelMixin], dict[str, object]]] = {
    name: (getattr(import_module(one.module), one.class_name), one.keywords)
    for name, one in PRESETS.items()
}


def preset(name: str) -> tuple[type[ModelMixin], dict[str, object]]:
    """Class and keywords of a named model; upper and lower case are the same.

    Raises:
        UsageError: no model has this name; the message says which are known.
    """
    return MODELS[proper_name(name, MODELS)]


def constructor_keywords(name: str) -> list[str]:
    """The keywords that the constructor of a named model takes."""
    return list(inspect.signature(preset(name)[0].__init__).parameters)[1:]


def create_model(name: str, **overrides: Any) -> ModelMixin:
    """A model with random weights, by name, with constructor keywords of your choice.

    Raises:
        UsageError: unknown name.
        TypeError: a keyword that the model does not have; the message names the nearest.
    """
    model_class, keywords = preset(name)
    # Python's own TypeError would not say which keyword was meant.
    known = constructor_keywords(name)
    for keyword in overrides:
        if keyword not in known:
            hint = did_you_mean(keyword, known)
            raise TypeError(f"{name} has no keyword {keyword!r}.{hint} Known: {', '.join(known)}.")
    return model_class(**{**keywords, **overrides})


def example_inputs(model: ModelMixin, height: int, width: int) -> tuple[Tensor, ...]:
    """One image of zeros and class 0, as the model's `forward` takes them, where the model is.

    `height` and `width` are in latents, tokens or pixels, as the model works on them. A model of
    texts takes `example_text` instead of the class.
    """
    device = next(model.parameters()).device
    of_text = model.config.get("text") is not None
    labels = torch.zeros(1, dtype=torch.long, device=device)
    if not model.draws:
        return (torch.zeros(1, model.config.channels, height, width, device=device),)
    if model.works_on == "tokens":
        tokens = torch.zeros(1, height, width, dtype=torch.long, device=device)
        dropped = torch.zeros(1, dtype=torch.bool, device=device)
        return (tokens,) if of_text else (tokens, labels, dropped)
    sample = torch.zeros(1, model.config.in_channels, height, width, device=device)
    time = torch.zeros(1, device=device)
    return (sample, time) if of_text else (sample, time, labels)


def example_text(model: ModelMixin) -> dict[str, Tensor]:
    """One encoded text of zeros, as a model of texts takes it; nothing for another model."""
    text = model.config.get("text")
    if text is None:
        return {}
    device = next(model.parameters()).device
    return {
        "encoder_hidden_states": torch.zeros(1, text["length"], text["width"], device=device),
        "encoder_attention_mask": torch.ones(1, text["length"], dtype=torch.bool, device=device),
        "pooled_projections": torch.zeros(1, text["pooled_width"], device=device),
    }
