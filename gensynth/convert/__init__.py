"""Published checkpoints as gensynth models."""

from collections.abc import Mapping

from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from gensynth.convert import dico

SYSTEMS = {"dico": dico}


def load_official(system: str, state_dict: Mapping[str, Tensor], **config: object) -> ModelMixin:
    """The gensynth model that computes what the official model with this state computes.

    Args:
        system: a key of `SYSTEMS`.
        state_dict: tensors under the official names.
        config: keyword arguments of the official constructor.

    Raises:
        ValueError: unknown system, or tensors that are missing, unexpected or of another shape.
    """
    if system not in SYSTEMS:
        raise ValueError(f"unknown system {system!r}; known: {', '.join(sorted(SYSTEMS))}")
    model = SYSTEMS[system].build(**config)
    renamed = {SYSTEMS[system].rename(name): tensor for name, tensor in state_dict.items()}
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in renamed]
    problems += [f"unexpected {name}" for name in renamed if name not in own]
    problems += [
        f"{name} is {tuple(renamed[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in renamed and renamed[name].shape != own[name].shape
    ]
    if problems:
        raise ValueError(f"this is not a {system} state with {config}: " + "; ".join(problems[:20]))
    model.load_state_dict(renamed)
    return model
