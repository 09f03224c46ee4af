"""Numbers for sets of images: `evaluate.evaluate` measures them."""

from gensynth.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
