"""An experiment: read from YAML, checked, and put together once."""

from gensynth.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
