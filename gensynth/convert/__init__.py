"""Published checkpoints as gensynth models."""

import inspect
from collections.abc import Mapping
from types import ModuleType

from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from gensynth.convert.families import dic, dico, dit, maskgit, mdt, sit, vq
from gensynth.errors import UsageError, did_you_mean

SYSTEMS: dict[str, ModuleType] = {
    "dico": dico,
    "dic": dic,
    "dit": dit,
    "sit": sit,
    "mdt": mdt,
    "maskgit": maskgit,
    "llamagen": vq,
}
SHOWN = 20  # differences named in an error
# Settings of guided sampling that are kept beside a model's keywords, and are not the model's.
GUIDANCE = ("cfg_scale", "cfg_cases")


def load_official(system: str, state_dict: Mapping[str, Tensor], **config: object) -> ModelMixin:
    """The gensynth model that computes what the official model with this state computes.

    Args:
        system: a key of `SYSTEMS`.
        state_dict: tensors under the official names.
        config: keyword arguments of the official constructor; those of guidance have no effect.

    Raises:
        UsageError: unknown system, or tensors that are missing, unexpected or of another shape.
        TypeError: a keyword that the official constructor does not have.
    """
    if system not in SYSTEMS:
        raise UsageError(f"unknown system {system!r}; known: {', '.join(sorted(SYSTEMS))}")
    known = official_keywords(system)
    for key in config:
        if key not in known:
            raise TypeError(
                f"{system} has no keyword {key!r}.{did_you_mean(key, known)} "
                f"Known: {', '.join(known)}."
            )
    own = {key: value for key, value in config.items() if key not in GUIDANCE}
    model = SYSTEMS[system].build(**own)
    renamed = rename(system, state_dict)
    # All differences at once, by the official names, which load_state_dict would not say.
    problems = differences(system, renamed, model.state_dict())
    if problems:
        raise UsageError(
            f"this is not a {system} state with {config}: "
            + "; ".join(problems[:SHOWN])
            + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")
        )
    model.load_state_dict(renamed)
    return model


def official_keywords(system: str) -> list[str]:
    """What `load_official` takes beside the state of a system."""
    module = SYSTEMS[system]
    signature = inspect.signature(module.build)
    names = [*signature.parameters, *getattr(module, "PUBLISHED", ()), *GUIDANCE]
    if "config" in names:  # the keywords that ours has under the same name
        names.remove("config")
        own = list(inspect.signature(signature.return_annotation.__init__).parameters)[1:]
        names += [name for name in own if name not in names and name not in module.OURS]
    return names


def rename(system: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state under our names, and in our shapes."""
    module = SYSTEMS[system]
    ignored: tuple[str, ...] = getattr(module, "IGNORED", ())  # ends of names
    beside: tuple[str, ...] = getattr(module, "BESIDE", ())  # starts of names
    renamed = {
        module.NAMES.ours(name): tensor
        for name, tensor in state_dict.items()
        if not name.endswith(ignored) and not name.startswith(beside)
    }
    if hasattr(module, "adapted"):
        return {name: module.adapted(name, tensor) for name, tensor in renamed.items()}
    return renamed


def differences(system: str, renamed: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What distinguishes a renamed official state from a model's, one sentence each.

    Names are given as the checkpoint has them.
    """
    official = SYSTEMS[system].NAMES.official
    problems = [f"missing {official(name)}" for name in own if name not in renamed]
    problems += [f"unexpected {official(name)}" for name in renamed if name not in own]
    problems += [
        f"{official(name)} is {list(renamed[name].shape)}, not {list(own[name].shape)}"
        for name in own
        if name in renamed and renamed[name].shape != own[name].shape
    ]
    return problems
