"""Orders in which masked tokens are decided."""

from gensynth.masking import halton_order as halton_order
