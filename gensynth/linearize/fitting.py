"""Whether weights are those of a model, and the names of both if they are not."""

import re
from collections.abc import Mapping, Sequence

from gensynth.errors import InputError
from gensynth.linearize.contract import Replaced, Size, Weights

# UNets of Stable Diffusion by the number of their self-attentions and how many heads these have.
UNETS = {
    (16, (8,)): "Stable Diffusion 1.5",
    (16, (5, 10, 20)): "Stable Diffusion 2.1",
    (70, (10, 20)): "Stable Diffusion XL",
}
# How a model calls its self-attentions, the first that is found among all of their names.
CALLED = {
    r"single_transformer_blocks\.": "FLUX",
    r"transformer_blocks\.\d+\.attn2?$": "Stable Diffusion 3",
    r"transformer_blocks\.\d+\.attn1$": "PixArt",
    r"blocks\.\d+\.mixer$": "DiT",
}


def described(sizes: Mapping[str, Size]) -> str:
    """Which model some self-attentions are of, in words."""
    heads = sorted({size.heads for size in sizes.values() if size.heads is not None})
    widths = sorted({size.width for size in sizes.values()})
    if any(re.match(r"(down_blocks|mid_block|up_blocks)\.", name) for name in sizes):
        name = UNETS.get((len(sizes), tuple(heads)), "a UNet")
    else:
        known = (kind for like, kind in CALLED.items() if any(re.match(like, n) for n in sizes))
        name = next(known, "another model")
    words = f"{name} ({len(sizes)} self-attentions of width {_listed(widths)}"
    return words + (f", heads {_listed(heads)})" if heads else ")")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def check_fit(weights: Weights, replaced: Sequence[Replaced]) -> None:
    """Refuses weights of another base model.

    Raises:
        InputError: names both.
    """
    own = {one.name: Size(one.width, one.heads) for one in replaced}
    same = weights.sizes.keys() == own.keys() and all(
        size.width == own[name].width and size.heads in (None, own[name].heads)
        for name, size in weights.sizes.items()
    )
    if not same:
        raise InputError(
            f"the weights {weights.source} are for {described(weights.sizes)}, and this model is "
            f"{described(own)}; give the weights that were trained for it."
        )
