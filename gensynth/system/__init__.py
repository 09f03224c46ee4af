"""What is around the program: installed sources, the hub, files that processes leave behind."""

from gensynth.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
