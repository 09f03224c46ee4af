"""Operators: what a model computes most of its time, each with its definition in `reference.py`."""

from gensynth.ops.linear_attention import linear_attention
from gensynth.ops.local_attention import local_attention

__all__ = ["linear_attention", "local_attention"]
