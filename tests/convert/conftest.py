import sys
from pathlib import Path

import pytest

# The tests here share `states.py`; importlib mode does not put their folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def weights():
    """The state of a small DiT as the official code would store it."""
    from states import official, small

    return official("dit", small("dit"))
