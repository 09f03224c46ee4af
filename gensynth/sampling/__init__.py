"""Many pictures: `generate` makes them, `outputs` writes them."""

from gensynth.lazy import submodules
from gensynth.sampling import masked as masked

__getattr__, __dir__ = submodules(__name__)
