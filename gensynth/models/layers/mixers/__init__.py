"""Token mixers by name: how the tokens of a transformer block see each other.

Each maps tokens [B, N, C] on a `Grid` to [B, N, C]. Adding one: a file here and a line in `MIXERS`;
its options are the keywords of its constructor after the width and the number of heads.
"""

import inspect
from typing import Any

from torch import nn

from gensynth.models.layers.mixers.inline import InLineAttention
from gensynth.models.layers.mixers.linear import GeneralizedLinearAttention
from gensynth.models.layers.mixers.linfusion import LinFusionAttention
from gensynth.models.layers.mixers.local import LocalAttention
from gensynth.models.layers.mixers.nala import NormAwareLinearAttention
from gensynth.models.layers.mixers.rala import RankAugmentedLinearAttention
from gensynth.models.layers.mixers.softmax import SoftmaxAttention

MIXERS: dict[str, type[nn.Module]] = {
    "softmax": SoftmaxAttention,
    "linear": GeneralizedLinearAttention,
    "local": LocalAttention,
    "rala": RankAugmentedLinearAttention,
    "inline": InLineAttention,
    "nala": NormAwareLinearAttention,
    "linfusion": LinFusionAttention,
}


def options_of(name: str) -> list[str]:
    """The keywords that a mixer has beside its width and its number of heads."""
    return list(inspect.signature(MIXERS[name].__init__).parameters)[3:]


def create_mixer(name: str, hidden_size: int, num_heads: int, **options: Any) -> nn.Module:
    """A mixer by name; options that are None are left at the mixer's default.

    Raises:
        ValueError: unknown name, an option the mixer does not have, or heads that do not divide.
    """
    if name not in MIXERS:
        raise ValueError(f"unknown mixer {name!r}; known: {', '.join(MIXERS)}")
    # None is what a configuration without the key has; the mixer's own default then holds.
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in options_of(name):
            takers = ", ".join(other for other in MIXERS if key in options_of(other)) or "none"
            raise ValueError(f"mixer {name!r} has no option {key!r} (it is for: {takers})")
    if hidden_size % num_heads:
        raise ValueError(f"hidden_size {hidden_size} is not a multiple of num_heads {num_heads}")
    return MIXERS[name](hidden_size, num_heads, **given)
