"""Backbones by name. Adding one: a file here, its presets in `MODELS`, a YAML, a contract test."""

import difflib
import inspect
from typing import Any

from diffusers.models.modeling_utils import ModelMixin

from gensynth.errors import UsageError
from gensynth.models import dic, dico, dit, mdt
from gensynth.models.dic import DiC
from gensynth.models.dico import DiCo
from gensynth.models.dit import DiT
from gensynth.models.mdt import MDTv2

# Name -> class and the keywords that make that size of it.
MODELS: dict[str, tuple[type[ModelMixin], dict[str, object]]] = {
    name: (model_class, keywords)
    for model_class, presets in (
        (DiT, dit.PRESETS),
        (DiT, dit.SIT_PRESETS),
        (DiC, dic.PRESETS),
        (DiCo, dico.PRESETS),
        (MDTv2, mdt.PRESETS),
    )
    for name, keywords in presets.items()
}


def preset(name: str) -> tuple[type[ModelMixin], dict[str, object]]:
    """Class and keywords of a named model; upper and lower case are the same.

    Raises:
        UsageError: no model has this name; the message says which are known.
    """
    by_lower_case = {known.lower(): known for known in MODELS}
    if name.lower() not in by_lower_case:
        close = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
        hint = f" Did you mean {by_lower_case[close[0]]!r}?" if close else ""
        raise UsageError(f"unknown model {name!r}.{hint} Known: {', '.join(MODELS)}.")
    return MODELS[by_lower_case[name.lower()]]


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
