"""gensynth: efficient image synthesis. Train, sample, evaluate and serve small and large models.

    import gensynth
    pipe = gensynth.load("emoji")
    pictures = pipe(prompts=["cat face, fluent"] * 2, seeds=[0, 1], steps=30, guidance=3.0)

The names below are imported when they are first used; importing the package is cheap.
"""

# Under names of their own: what is imported here shows up as `gensynth.…` to whoever looks.
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from gensynth import (
        autoencoders,
        conditions,
        config,
        convert,
        data,
        errors,
        evaluation,
        experiments,
        linearize,
        metrics,
        models,
        objectives,
        ops,
        pipelines,
        samplers,
        sampling,
        seeding,
        settings,
        training,
    )
    from gensynth.experiments.read import load_experiment
    from gensynth.linearize import restore
    from gensynth.models import create_model
    from gensynth.pipelines.loading import load
    from gensynth.samplers import guidance
    from gensynth.settings import Settings

__version__ = "0.1.0"
__all__ = [
    "Settings",
    "__version__",
    "autoencoders",
    "conditions",
    "config",
    "convert",
    "create_model",
    "data",
    "errors",
    "evaluation",
    "experiments",
    "guidance",
    "linearize",
    "load",
    "load_experiment",
    "metrics",
    "models",
    "objectives",
    "ops",
    "pipelines",
    "restore",
    "samplers",
    "sampling",
    "seeding",
    "settings",
    "training",
]

# Where the names are that are not packages of this one.
_HOMES = {
    "Settings": "gensynth.settings",
    "create_model": "gensynth.models",
    "guidance": "gensynth.samplers.guidance",
    "load": "gensynth.pipelines.loading",
    "load_experiment": "gensynth.experiments.read",
    "restore": "gensynth.linearize",
}


def __getattr__(name: str) -> _Any:
    if name not in __all__:
        from gensynth.errors import did_you_mean

        # Python itself asks for names such as __path__, where a guess would only confuse.
        hint = "" if name.startswith("_") else did_you_mean(name, __all__)
        raise AttributeError(f"module 'gensynth' has no attribute {name!r}.{hint}")
    module = _import_module(_HOMES.get(name, f"gensynth.{name}"))
    return module if module.__name__.endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
