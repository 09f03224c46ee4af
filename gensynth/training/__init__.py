"""Training: `loop.train(experiment)` runs, resumes and finishes an experiment."""

from gensynth.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
