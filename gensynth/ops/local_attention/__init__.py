"""Attention of each image token to the tokens inside a disc around it, and to all text tokens."""

from gensynth.ops.local_attention.reference import local_attention

__all__ = ["local_attention"]
