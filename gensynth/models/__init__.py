"""Backbones by name. Adding one: a file here, its presets in `MODELS`, a YAML, a contract test."""

import difflib
import inspect
from typing import Any

from diffusers.models.modeling_utils import ModelMixin

from gensynth.errors import UsageError
from gensynth.models import dico
from gensynth.models.dico import DiCo

# Name -> class and the keywords that make that size of it.
MODELS: dict[str, tuple[type[DiCo], dict[str, object]]] = {
    name: (DiCo, keywords) for name, keywords in dico.PRESETS.items()
}


def preset(name: str) -> tuple[type[DiCo], dict[str, object]]:
    """Class and keywords of a named model.

    Raises:
        UsageError: no model has this name; the message says which are known.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"unknown model {name!r}.{hint} Known: {', '.join(MODELS)}.")
    return MODELS[name]


def constructor_keywords(name: str) -> list[str]:
    """The keywords that the constructor of a named model takes."""
    return list(inspect.signature(preset(name)[0].__init__).parameters)[1:]


def create_model(name: str, **overrides: Any) -> ModelMixin:
    """A model with random weights, by name, with constructor keywords of your choice.

    Raises:
        UsageError: unknown name.
        TypeError: a keyword that the model does not have.
    """
    model_class, keywords = preset(name)
    return model_class(**{**keywords, **overrides})
