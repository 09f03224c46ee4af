"""The official SiT checkpoints (willisma/SiT, models.py): DiT's names, variance thrown away."""

from gensynth.convert.families.dit import NAMES as NAMES
from gensynth.models.dit import DiT

# Keywords of our constructor that `build` sets from official ones.
OURS = ("null_label", "discard_sigma")


def build(class_dropout_prob: float = 0.1, learn_sigma: bool = True, **config: object) -> DiT:
    """SiT from the official constructor's keywords."""
    return DiT(
        null_label=class_dropout_prob > 0,
        learn_sigma=learn_sigma,
        discard_sigma=learn_sigma,
        **config,
    )
