import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# The tests here share files; importlib mode does not put their folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def pair(make_pipeline) -> Callable:
    """Twice the same pipeline of a kind of model."""
    from optimized import tiny_model

    def make(name: str = "DiCo", prediction: str = "velocity", **keywords):
        if name == "MaskGIT":
            return [make_pipeline("tokens", **keywords) for _ in range(2)]
        learns = prediction == "epsilon"
        return [
            make_pipeline(prediction, model=tiny_model(name, learn_sigma=learns), **keywords)
            for _ in range(2)
        ]

    return make
