"""Finished models: found, loaded, drawn with and saved. The table of classes loads when asked."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gensynth.lazy import submodules

if TYPE_CHECKING:
    from gensynth.pipelines.table import PIPELINE_OF, PIPELINES

__all__ = ["PIPELINES", "PIPELINE_OF"]

_submodule, _submodules = submodules(__name__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("gensynth.pipelines.table"), name)
    return _submodule(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_submodules()])
