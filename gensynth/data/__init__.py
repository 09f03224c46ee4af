"""From any source of images to uint8 batches with labels, in an order that can be resumed."""

from gensynth.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
