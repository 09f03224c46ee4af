"""A wrong --model is answered with what works: leaving it out, or keywords for a size of one's own.

Names and shapes alone are compared, so that sizes of any width take no memory here.
"""

import pytest
import torch

from gensynth.convert.matching import matching_size
from gensynth.errors import UsageError
from gensynth.models import create_model


def shapes(name, **keywords):
    with torch.device("meta"):
        return create_model(name, **keywords).state_dict()


@pytest.mark.parametrize(
    ("system", "own", "given"),
    [
        ("dit", "DiT-nano/2", "DiT-S/2"),
        ("dit", "DiT-S/4", "dit-s/2"),
        ("dico", "DiCo-nano", "DiCo-S"),
        ("dit", "DiT-nano/2", "DiCo-S"),  # of another system
    ],
)
def test_a_size_that_is_found_by_itself_is_named(system, own, given):
    tensors = shapes(own, num_classes=7)
    with pytest.raises(UsageError) as refused:
        matching_size(system, tensors, given, {})
    said = str(refused.value)
    assert f"It is a {own}: leave --model and --config out" in said and "KEY=VALUE" not in said
    assert matching_size(system, tensors, None, {})[0] == own  # the advice works


def test_a_size_of_ones_own_needs_its_keywords():
    tensors = shapes("DiT-nano/2", hidden_size=64, num_heads=2, depth=3)
    for given in ("DiT-nano/2", None):
        with pytest.raises(UsageError) as refused:
            matching_size("dit", tensors, given, {})
        said = str(refused.value)
        assert "leave --model" not in said
        assert said.endswith("--config KEY=VALUE for each keyword that differs from it.")
    own = {"hidden_size": 64, "num_heads": 2, "depth": 3}
    assert matching_size("dit", tensors, "DiT-nano/2", own)[0] == "DiT-nano/2"
