"""Normalised, non-causal linear attention: time and memory linear in the number of tokens."""

from gensynth.ops.linear_attention.reference import linear_attention

__all__ = ["linear_attention"]
