"""Which weights of a model a run trains: all, those that are not frozen, or adapters."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gensynth.config import Experiment, Lora
from gensynth.errors import UsageError
from gensynth.experiments.beginning.begin import Beginning
from gensynth.experiments.beginning.patterns import chosen
from gensynth.lora.layers import adaptable, meaning, put_on
from gensynth.seeding import derived_seed


@dataclass
class Tuning:
    """What is trained of a model.

    Attributes:
        frozen: names of the weights that are not, since the experiment says so.
        whole: with adapters, the tensors that are stored beside them.
        base: with adapters, which model they are of, for `lora.store.write_adapter`.
        lines: for people.
        apart: whether states and averages hold the trained weights only.
    """

    frozen: frozenset[str] = frozenset()
    whole: list[str] = field(default_factory=list)
    base: dict[str, Any] | None = None
    lines: list[str] = field(default_factory=list)
    apart: bool = False


def of_student(model: nn.Module, trained: Collection[str], done: object) -> Tuning:
    """What is trained of the student of a distillation."""
    frozen = frozenset(name for name, _ in model.named_parameters() if name not in trained)
    return Tuning(frozen, lines=[f"{done}; frozen: {_share(model, frozen)}"], apart=True)


def check_tuning(experiment: Experiment, model: nn.Module) -> None:
    """Checks the patterns of an experiment against its model, which may be on meta.

    Raises:
        UsageError: one that means nothing, or nothing is left to train.
    """
    weights = [name for name, _ in model.named_parameters()]
    _check_left(model, chosen(experiment.training.freeze, weights, "training.freeze"))
    if experiment.lora is not None:
        chosen(experiment.lora.targets, adaptable(model), "lora.targets")
        chosen(experiment.lora.whole, weights, "lora.whole")


def tune(experiment: Experiment, model: nn.Module, begun: Beginning) -> Tuning:
    """Freezes what an experiment does not train, and puts its adapters on the layers.

    Raises:
        UsageError: as `check_tuning`; or the model that the adapters are to be of means something
            else here.
    """
    if experiment.lora is not None:
        return _adapt(experiment, experiment.lora, model, begun)
    weights = [name for name, _ in model.named_parameters()]
    frozen = chosen(experiment.training.freeze, weights, "training.freeze")
    _check_left(model, frozen)
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    if not frozen:
        return Tuning()
    parts = ", ".join(experiment.training.freeze)
    return Tuning(frozenset(frozen), lines=[f"frozen ({parts}): {_share(model, frozen)}"])


def _check_left(model: nn.Module, frozen: Iterable[str]) -> None:
    left = {name for name, weight in model.named_parameters() if weight.requires_grad}
    if not left - set(frozen):
        raise UsageError(
            "training.freeze leaves nothing to train; take out the pattern of what is to learn."
        )


def _adapt(experiment: Experiment, config: Lora, model: nn.Module, begun: Beginning) -> Tuning:
    from peft import LoraConfig

    if begun.unlike is not None:
        raise UsageError(
            f"lora: adapters go with the model that they were trained on, but {begun.unlike}. Make "
            "them alike, or train without lora."
        )
    weights = dict(model.named_parameters())
    whole = {*begun.other, *chosen(config.whole, weights, "lora.whole")}
    trained = {n for n in whole & weights.keys() if weights[n].requires_grad}
    possible = [n for n in adaptable(model) if not any(w.startswith(f"{n}.") for w in whole)]
    layers = chosen(config.targets, possible, "lora.targets")
    adapters = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or config.rank,
        lora_dropout=config.dropout,
        target_modules=meaning(layers),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(experiment.seed, "lora"))
        put_on(model, adapters)  # freezes all but them
    for name in trained:
        model.get_parameter(name).requires_grad_(True)
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    where = Path(str(experiment.init_from))
    name = where.name if where.is_absolute() else str(where)  # no path of the author's machine
    base: dict[str, Any] = {"name": name, "mark": begun.mark}
    base |= {"size": experiment.data.size, "condition_kind": experiment.condition.kind}
    said = f"lora: adapters of rank {config.rank} on {len(layers)} layers"
    beside = f", {len(trained)} tensors trained as a whole" if trained else ""
    lines = [f"{said}{beside}; frozen: {_share(model, frozen)}"]
    return Tuning(frozenset(frozen), sorted(whole), base, lines, apart=True)


def _share(model: nn.Module, names: Iterable[str]) -> str:
    weights = {name: weight.numel() for name, weight in model.named_parameters()}
    count = len(names := list(names))
    numbers = sum(weights[name] for name in names)
    return (
        f"{count} of {len(weights)} tensors, {numbers / sum(weights.values()):.0%} of the numbers"
    )
