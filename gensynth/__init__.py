"""gensynth: efficient image synthesis. Train, sample, evaluate and serve small and large models.

    import gensynth
    pipe = gensynth.load("dico-nano-fashion")
    pictures = pipe(labels=["Sneaker", 8], seeds=[0, 1], steps=30, guidance=2.0)

The names below are imported when they are first used; importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gensynth.experiments.read import load_experiment
    from gensynth.models import create_model
    from gensynth.pipelines.loading import load

__version__ = "0.1.0"
__all__ = ["__version__", "create_model", "load", "load_experiment"]

_HOMES = {
    "create_model": "gensynth.models",
    "load": "gensynth.pipelines.loading",
    "load_experiment": "gensynth.experiments.read",
    "convert": "gensynth.convert",
    "objectives": "gensynth.objectives",
    "ops": "gensynth.ops",
    "sampling": "gensynth.sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gensynth' has no attribute {name!r}")
    module = import_module(_HOMES[name])
    return module if _HOMES[name] == f"gensynth.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
