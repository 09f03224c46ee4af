"""The smallest configurations, and how one is refused."""

from pathlib import Path

import pytest

from gensynth.errors import UsageError
from gensynth.experiments.read import load_experiment

MINIMAL = {"output": "out", "model": {"name": "DiCo-nano"}, "objective": {"name": "flow"}}
DDPM = {**MINIMAL, "objective": {"name": "ddpm"}}


def refusal(path: Path, *overrides: str) -> str:
    """The message of the UsageError, which must be one line and name the file."""
    with pytest.raises(UsageError) as caught:
        load_experiment(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message
