"""Models by name. Adding one: a file here, its sizes in `presets`, a YAML, a contract test.

`works_on` of a model's class says what it is trained on: "latents", "tokens", or the "pixels"
themselves. Its `draws` is false for tokenizers, which are trained on pixels or latents.

The names below are imported when they are first used: `presets` is asked before torch is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gensynth.lazy import submodules

if TYPE_CHECKING:
    from gensynth.models.named import (
        MODELS,
        constructor_keywords,
        create_model,
        example_inputs,
        example_text,
        preset,
    )

__all__ = [
    "MODELS",
    "constructor_keywords",
    "create_model",
    "example_inputs",
    "example_text",
    "preset",
]

_submodule, _submodules = submodules(__name__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("gensynth.models.named"), name)
    return _submodule(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_submodules()])
