"""Operators: where models spend most of their time, each with its definition in `reference.py`."""

from gensynth.ops.choice import use
from gensynth.ops.dwconv_gelu_pool import dwconv_gelu_pool
from gensynth.ops.linear_attention import linear_attention
from gensynth.ops.local_attention import local_attention
from gensynth.ops.operators import OPERATORS, explain

__all__ = ["OPERATORS", "dwconv_gelu_pool", "explain", "linear_attention", "local_attention", "use"]
