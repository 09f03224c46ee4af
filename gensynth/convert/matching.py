"""A published file -> the named model that its tensors are of, with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from gensynth.convert import SYSTEMS, differences, rename
from gensynth.convert.families.sit import PROJECTORS, turned
from gensynth.convert.finding import State
from gensynth.convert.inference import inferred
from gensynth.convert.reading import read_state
from gensynth.errors import CorruptError, UsageError
from gensynth.models import MODELS, create_model, preset
from gensynth.preflight.converting import FAMILIES

OWN_SIZE = (
    " For a size of your own give --model NAME and --config KEY=VALUE for each keyword that "
    "differs from it."
)
SHOWN = 4  # differences named in an error


@dataclass(frozen=True)
class Match:
    """A published file and the model it is of."""

    checkpoint: Path
    name: str  # of the preset
    keywords: dict[str, Any]  # in which the model differs from it
    tensors: dict[str, Tensor]  # under our names
    part: str | None  # of the checkpoint, see `State`
    averaged: bool = False
    borrowed: tuple[str, ...] = ()  # tensors that the average lacked, see `State`
    repa: bool = False  # whether it was one of REPA's, whose time was turned round

    def filled(self) -> ModelMixin:
        """The model with the checkpoint's weights, in float32, for evaluation.

        Raises:
            CorruptError: a weight is not finite, or a whole number.
        """
        for key, tensor in self.tensors.items():
            if not tensor.is_floating_point():
                raise CorruptError(
                    f"{self.checkpoint} holds whole numbers ({tensor.dtype}) for {key}; weights "
                    "of 8 bits and fewer are not read."
                )
        # 8 bits are not looked at by torch's isfinite
        spoilt = [k for k, tensor in self.tensors.items() if not tensor.float().isfinite().all()]
        if spoilt:
            raise CorruptError(
                f"{self.checkpoint} has weights that are not finite: {spoilt[0]}, ..."
            )
        # The start is drawn and then overwritten: the caller's generator shall not notice.
        with torch.random.fork_rng(devices=[]):
            model = create_model(self.name, **self.keywords)
        model.load_state_dict(self.tensors)
        return model.eval()


def match(
    system: str,
    checkpoint: Path,
    model: str | None = None,
    changes: Mapping[str, Any] | None = None,
    part: str | None = None,
) -> Match:
    """Reads a published file and finds the size it is of, see `matching_size` and `read_state`.

    Raises:
        UsageError: a checkpoint of another system or size, with the differences.
        InputError, RefusedError, CorruptError: it is missing, unsafe or damaged.
    """
    state = read_state(checkpoint, system, part)
    check_system(system, state, checkpoint)
    tensors = rename(system, state.tensors)
    name, keywords = matching_size(system, tensors, model, dict(changes or {}))
    found = Match(checkpoint, name, keywords, tensors, state.part, state.averaged, state.borrowed)
    if system == "sit" and any(name.startswith(PROJECTORS) for name in state.tensors):
        return replace(found, tensors=turned(tensors), repa=True)
    return found


def check_system(system: str, state: State, checkpoint: Path) -> None:
    """Refuses a state whose names are another system's. Those of DiT and SiT are the same."""
    names = [name for name in state.tensors if not name.startswith(PROJECTORS)]
    shares = {
        known: sum(name.startswith(tuple(SYSTEMS[known].NAMES.prefixes)) for name in names)
        / max(1, len(names))
        for known in FAMILIES
    }
    best = max(shares.values())
    alike = [known for known, share in shares.items() if share == best and best > 0.5]
    if not alike:
        some = ", ".join(list(state.tensors)[:SHOWN])
        raise UsageError(
            f"{checkpoint} is not a checkpoint of {', '.join(FAMILIES)}: its tensors are called "
            f"{some}, ..."
        )
    if system not in alike:
        kinds = " or ".join(FAMILIES[known].rstrip("-") for known in alike)
        flags = " or ".join(f"--from {known}" for known in alike)
        raise UsageError(f"{checkpoint} looks like a {kinds} checkpoint: {flags}.")


def matching_size(
    system: str, tensors: Mapping[str, Tensor], model: str | None, changes: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The preset that the tensors are of, and the keywords in which they differ from it.

    Raises:
        UsageError: no preset fits; the message lists the differences to the nearest.
    """
    family = [name for name in MODELS if name.startswith(FAMILIES[system])]
    if model is not None:
        preset(model)  # raises for an unknown name
        family = [name for name in family if name.lower() == model.lower()]
        if not family:
            said = f"--model {model} is not a {FAMILIES[system].rstrip('-')}."
            raise UsageError(said + _found(system, tensors))
    compared = []
    for name in family:
        keywords = {**inferred(system, name, tensors, changes), **changes}
        try:
            # names and shapes alone: every size of a family is tried, without its memory
            with torch.device("meta"):
                own = create_model(name, **keywords).state_dict()
        except (ValueError, TypeError, RuntimeError) as error:
            if changes:
                raise UsageError(f"{name} cannot be built with {changes}: {error}.") from error
            continue  # a patch that does not divide the picture
        problems = differences(system, tensors, own)
        if not problems:
            return name, keywords
        compared.append((len(problems), name, problems))
    if not compared:
        said = f"no {FAMILIES[system].rstrip('-')} has positions of this number."
        raise UsageError(said if model is None else said + _found(system, tensors))
    said = _explain(*min(compared)[1:], named=model is not None)
    raise UsageError(said + ((model and _found(system, tensors)) or OWN_SIZE))


def _found(system: str, tensors: Mapping[str, Tensor]) -> str:
    """What to do about a wrong --model where the right one is found without it; "" elsewhere."""
    try:
        name, _ = matching_size(system, tensors, None, {})
    except UsageError:
        return ""
    return f" It is a {name}: leave --model and --config out, and that is found by itself."


def _explain(name: str, problems: list[str], named: bool) -> str:
    counts = {
        kind: sum(problem.startswith(kind) for problem in problems)
        for kind in ("missing", "unexpected")
    }
    counts["of another shape"] = len(problems) - sum(counts.values())
    total = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    whose = "these are not the weights of" if named else "no known size has these weights; nearest:"
    more = "; ..." if len(problems) > SHOWN else ""
    return f"{whose} {name}: {total} ({'; '.join(problems[:SHOWN])}{more})."
