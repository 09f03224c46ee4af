"""From noise to data: paths, integrators, guidance, masking, decoders, and the walk over them."""

from gensynth.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
