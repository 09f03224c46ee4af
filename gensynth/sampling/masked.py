"""Orders in which masked tokens are decided."""

from gensynth.samplers.masking import halton_order as halton_order
