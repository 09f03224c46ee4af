"""Many pictures: `generate` makes them, `outputs` writes them."""

from gensynth.sampling import masked as masked
