"""The steps of `benchmarks/gpu.py` by name, in the order in which they should be run."""

from gensynth_benchmarks.gpu_steps import (
    equal_budget,
    highres,
    linearize,
    models,
    ops,
    showcase,
    train,
)
from gensynth_benchmarks.gpu_steps.common import Step

STEPS: dict[str, Step] = {
    "ops": ops,
    "models": models,
    "train": train,
    "equal-budget": equal_budget,
    "showcase": showcase,
    "highres": highres,
    "linearize": linearize,
}
