"""Where operators are tested: on a GPU if there is one, else in Triton's interpreter."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gensynth.ops import choice

# The tests here share `numerics.py`; importlib mode does not put their folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def kernels() -> Iterator[None]:
    """Operators take their kernels, or raise."""
    if not choice.HAS_TRITON:
        pytest.skip("Triton is not installed")
    with choice.use("triton"):
        yield


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory that was not written reads as NaN, so that an output with holes fails."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before, warn_only=warn_only)
